#include "plan/picture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "plan/svg.h"

namespace lathe {
namespace {

constexpr double kWidth = 1200.0;
constexpr double kLeft = 90.0;
constexpr double kRight = 20.0;
constexpr double kPlotWidth = kWidth - kLeft - kRight;
constexpr double kMemoryTop = 50.0;
constexpr double kMemoryHeight = 320.0;
constexpr double kStreamTop = kMemoryTop + kMemoryHeight + 60.0;
constexpr double kStreamHeight = 36.0;
constexpr int kColumns = 600;  ///< of time that are told apart

/// By MemoryCategory.
constexpr const char* kCategoryColors[kNumMemoryCategories] = {
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2", "#9c6b4e", "#dddddd"};

constexpr const char* kExchangeColor = "#a463f2";
constexpr std::pair<const char*, const char*> kPhases[] = {{"forward", "#6cc5b0"},
                                                           {"head", "#efb118"},
                                                           {"backward", "#4269d0"},
                                                           {"gradient norm", "#ff8ab7"},
                                                           {"optimizer", "#ff725c"}};

const char* color_of(const WorkSpan& span, const WorkLabel& label) {
    if (span.stream == Stream::communication) {
        return kExchangeColor;
    }
    for (const auto& [phase, color] : kPhases) {
        if (std::strcmp(label.phase, phase) == 0) {
            return color;
        }
    }
    return "#bbbbbb";
}

/// Time and its place on the page.
struct TimeAxis {
    double begin_s = 0.0;
    double end_s = 1.0;

    double x(double time_s) const {
        const double way = (time_s - begin_s) / std::max(end_s - begin_s, 1e-12);
        return kLeft + kPlotWidth * std::clamp(way, 0.0, 1.0);
    }
};

using Bytes = std::array<int64_t, kNumMemoryCategories>;

/// The most of each column of time, so that no peak is lost.
std::vector<Bytes> by_columns(const DryRecord& record, const TimeAxis& axis) {
    std::vector<Bytes> columns(kColumns);
    std::vector<int64_t> totals(kColumns, -1);
    const auto column = [&](double time_s) {
        const double way = (axis.x(time_s) - kLeft) / kPlotWidth;
        return std::min(kColumns - 1, static_cast<int>(way * kColumns));
    };
    const MemoryMoment* last = nullptr;
    int last_column = 0;
    const auto raise = [&](int at, const MemoryMoment& moment) {
        if (moment.total_bytes > totals[static_cast<size_t>(at)]) {
            totals[static_cast<size_t>(at)] = moment.total_bytes;
            columns[static_cast<size_t>(at)] = moment.bytes;
        }
    };
    for (const MemoryMoment& moment : record.moments) {
        const int at = column(moment.time_s);
        for (int between = last_column; last != nullptr && between <= at; ++between) {
            raise(between, *last);
        }
        raise(at, moment);
        last = &moment;
        last_column = at;
    }
    for (int rest = last_column; last != nullptr && rest < kColumns; ++rest) {
        raise(rest, *last);
    }
    return columns;
}

void draw_memory(Svg& svg, const PlanReport& report, const TimeAxis& axis) {
    const DryRecord& record = report.result.record;
    const auto peak = static_cast<double>(std::max<int64_t>(1, record.peak.total_bytes));
    const auto y = [&](double bytes) {
        return kMemoryTop + kMemoryHeight * (1.0 - bytes / (1.05 * peak));
    };
    const std::vector<Bytes> columns = by_columns(record, axis);
    std::vector<double> below(kColumns, 0.0);
    double legend = kLeft;
    for (size_t category = 0; category < kNumMemoryCategories; ++category) {
        if (static_cast<MemoryCategory>(category) == MemoryCategory::offloaded) {
            continue;
        }
        std::vector<SvgPoint> lower;
        std::vector<SvgPoint> upper;
        for (size_t i = 0; i < columns.size(); ++i) {
            const double left = kLeft + kPlotWidth * static_cast<double>(i) / kColumns;
            const double right = kLeft + kPlotWidth * static_cast<double>(i + 1) / kColumns;
            const double top = below[i] + static_cast<double>(columns[i][category]);
            lower.insert(lower.end(), {{left, y(below[i])}, {right, y(below[i])}});
            upper.insert(upper.end(), {{left, y(top)}, {right, y(top)}});
            below[i] = top;
        }
        upper.insert(upper.end(), lower.rbegin(), lower.rend());
        svg.polygon(upper, kCategoryColors[category]);
        svg.rectangle({legend, kMemoryTop - 20.0}, 10.0, 10.0, kCategoryColors[category]);
        const std::string name(name_of(static_cast<MemoryCategory>(category)));
        svg.text({legend + 14.0, kMemoryTop - 11.0}, name);
        legend += 30.0 + 7.5 * static_cast<double>(name.size());
    }
    for (int tick = 0; tick <= 4; ++tick) {
        const double bytes = peak * tick / 4.0;
        svg.text({kLeft - 6.0, y(bytes) + 4.0}, bytes_text(bytes), "end");
    }
    const NamedMoment* largest = report.largest.empty() ? nullptr : &report.largest.front();
    if (largest != nullptr) {
        const double x = axis.x(largest->moment.time_s);
        svg.polyline({{x, kMemoryTop}, {x, kMemoryTop + kMemoryHeight}}, "black", "3,3");
        svg.text({x, kMemoryTop + kMemoryHeight + 16.0},
                 fmt::format("{} in {} {}", bytes_text(peak), largest->phase, largest->unit),
                 x > kWidth / 2.0 ? "end" : "start");
    }
}

/// Neighbouring spans of one colour are one, so that the picture stays small.
void draw_stream(Svg& svg, const DryRecord& record, const TimeAxis& axis, Stream stream,
                 double top) {
    const double narrowest = kPlotWidth / kColumns / 2.0;
    double begin = -1.0;
    double end = 0.0;
    double busy = 0.0;
    const char* color = "";
    std::string tooltip;
    const auto flush = [&] {
        if (begin >= 0.0) {
            svg.rectangle({begin, top}, std::max(0.3, end - begin), kStreamHeight, color, tooltip);
        }
    };
    for (const WorkSpan& span : record.spans) {
        if (span.stream != stream) {
            continue;
        }
        const WorkLabel& label = record.labels[static_cast<size_t>(span.label)];
        const char* wanted = color_of(span, label);
        const double from = axis.x(span.begin_s);
        const double to = axis.x(span.end_s);
        if (begin < 0.0 || wanted != color || from - end > narrowest ||
            tooltip != fmt::format("{} {}", label.phase, label.unit)) {
            flush();
            begin = from;
            color = wanted;
            tooltip = fmt::format("{} {}", label.phase, label.unit);
        }
        end = to;
        busy += span.end_s - span.begin_s;
    }
    flush();
    const bool compute = stream == Stream::compute;
    svg.text({kLeft - 6.0, top + kStreamHeight / 2.0 + 4.0}, compute ? "compute" : "exchange",
             "end");
    svg.text({kLeft, top + kStreamHeight + 14.0}, fmt::format("{} busy", seconds_text(busy)));
}

}  // namespace

std::string step_picture(const PlanReport& report) {
    const DryRecord& record = report.result.record;
    TimeAxis axis = {.begin_s = report.result.record_start_s, .end_s = 0.0};
    for (const WorkSpan& span : record.spans) {
        axis.end_s = std::max(axis.end_s, span.end_s);
    }
    Svg svg(kWidth, kStreamTop + 2.0 * (kStreamHeight + 24.0) + 50.0);
    svg.text(
        {kLeft, 18.0},
        fmt::format("{} parameters on {} x {}: {} (modelled; {} of {} rounds of micro-batches)",
                    count_text(static_cast<double>(report.result.num_parameters)),
                    report.plan.ranks, report.plan.hardware.name, layout_text(report.plan),
                    report.result.simulated_rounds, report.result.rounds));
    draw_memory(svg, report, axis);
    draw_stream(svg, record, axis, Stream::compute, kStreamTop);
    draw_stream(svg, record, axis, Stream::communication, kStreamTop + kStreamHeight + 24.0);
    double legend = kLeft;
    for (const auto& [phase, color] : kPhases) {
        svg.rectangle({legend, kStreamTop - 20.0}, 10.0, 10.0, color);
        svg.text({legend + 14.0, kStreamTop - 11.0}, phase);
        legend += 30.0 + 7.5 * static_cast<double>(std::strlen(phase));
    }
    const double bottom = kStreamTop + 2.0 * (kStreamHeight + 24.0) + 20.0;
    for (int tick = 0; tick <= 8; ++tick) {
        const double time_s = (axis.end_s - axis.begin_s) * tick / 8.0;
        svg.text({axis.x(axis.begin_s + time_s), bottom}, seconds_text(time_s),
                 tick == 8 ? "end" : "middle");
    }
    return svg.done();
}

std::string fit_picture(std::span<const LossPoint> points, const LossLaw& law) {
    constexpr double kHeight = 520.0;
    constexpr const char* kColors[] = {"#4269d0", "#efb118", "#ff725c",
                                       "#6cc5b0", "#a463f2", "#9c6b4e"};
    Svg svg(kWidth, kHeight);
    LossPoint low = points.front();
    LossPoint high = points.front();
    std::map<double, std::vector<LossPoint>> by_size;
    for (const LossPoint& point : points) {
        by_size[point.parameters].push_back(point);
        low.tokens = std::min(low.tokens, point.tokens);
        high.tokens = std::max(high.tokens, point.tokens);
        low.loss = std::min(low.loss, point.loss);
        high.loss = std::max(high.loss, point.loss);
    }
    const double range = std::max(high.loss - low.loss, 1e-3);
    const double decades = std::max(std::log(high.tokens / low.tokens), 1e-3);
    const auto place = [&](double tokens, double loss) -> SvgPoint {
        return {
            kLeft + kPlotWidth * 0.85 * std::log(tokens / low.tokens) / decades,
            40.0 + (kHeight - 100.0) * (1.0 - (loss - low.loss + 0.05 * range) / (1.15 * range))};
    };
    size_t color = 0;
    for (const auto& [size, runs] : by_size) {
        const char* const paint = kColors[color++ % std::size(kColors)];
        std::vector<SvgPoint> curve;
        for (int i = 0; i <= 60; ++i) {
            const double tokens = low.tokens * std::exp(decades * i / 60.0);
            const double loss = law.loss(size, tokens);
            if (loss < high.loss + 0.1 * range) {
                curve.push_back(place(tokens, loss));
            }
        }
        svg.polyline(curve, paint, "4,3");
        for (const LossPoint& run : runs) {
            svg.circle(place(run.tokens, run.loss), 3.0, paint);
        }
        svg.text({place(high.tokens, 0.0).x + 8.0,
                  place(high.tokens, law.loss(size, high.tokens)).y + 4.0},
                 count_text(size) + " parameters");
    }
    svg.text({kLeft, 20.0},
             fmt::format("loss = {:.4g} + {:.4g} / N^{:.4g} + {:.4g} / D^{:.4g}: measured (points) "
                         "and fitted (lines)",
                         law.e, law.a, law.alpha, law.b, law.beta));
    for (int tick = 0; tick <= 4; ++tick) {
        const double loss = low.loss + range * tick / 4.0;
        svg.text({kLeft - 6.0, place(low.tokens, loss).y + 4.0}, fmt::format("{:.3f}", loss),
                 "end");
        const double tokens = low.tokens * std::exp(decades * tick / 4.0);
        svg.text({place(tokens, low.loss).x, kHeight - 20.0}, count_text(tokens) + " tokens",
                 "middle");
    }
    return svg.done();
}

}  // namespace lathe
