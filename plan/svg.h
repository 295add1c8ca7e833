// Svg: shapes and words of one picture.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct SvgPoint {
    double x = 0.0;
    double y = 0.0;
};

class Svg {
  public:
    Svg(double width, double height) : width_(width), height_(height) {}

    void rectangle(SvgPoint corner, double width, double height, std::string_view color,
                   const std::string& tooltip = "") {
        body_ += fmt::format(R"(<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" )"
                             R"(fill="{}">{}</rect>)"
                             "\n",
                             corner.x, corner.y, width, height, color,
                             tooltip.empty() ? "" : "<title>" + escaped(tooltip) + "</title>");
    }
    void polygon(const std::vector<SvgPoint>& points, std::string_view color) {
        body_ += fmt::format("<polygon points=\"{}\" fill=\"{}\"/>\n", coordinates(points), color);
    }
    void polyline(const std::vector<SvgPoint>& points, std::string_view color,
                  std::string_view dashes = "none") {
        body_ +=
            fmt::format(R"(<polyline points="{}" fill="none" stroke="{}" stroke-dasharray="{}"/>)"
                        "\n",
                        coordinates(points), color, dashes);
    }
    void circle(SvgPoint center, double radius, std::string_view color) {
        body_ += fmt::format("<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{}\" fill=\"{}\"/>\n",
                             center.x, center.y, radius, color);
    }
    void text(SvgPoint at, const std::string& words, std::string_view anchor = "start") {
        body_ += fmt::format("<text x=\"{:.2f}\" y=\"{:.2f}\" text-anchor=\"{}\">{}</text>\n", at.x,
                             at.y, anchor, escaped(words));
    }

    std::string done() const {
        return fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:g}" )"
                           R"(height="{1:g}" viewBox="0 0 {0:g} {1:g}" )"
                           R"(font-family="sans-serif" font-size="12">)"
                           "\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{2}</svg>\n",
                           width_, height_, body_);
    }

  private:
    static std::string escaped(const std::string& words) {
        std::string safe;
        for (const char c : words) {
            safe += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
        }
        return safe;
    }
    static std::string coordinates(const std::vector<SvgPoint>& points) {
        std::string text;
        for (const SvgPoint& point : points) {
            text += fmt::format("{:.2f},{:.2f} ", point.x, point.y);
        }
        return text;
    }

    double width_;
    double height_;
    std::string body_;
};

}  // namespace lathe
