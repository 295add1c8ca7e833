#include "plan/dry_record.h"

namespace lathe {
namespace {

/// Calls combine(sum, term) for each member.
template <typename Combine>
void combine_all(WorkTotals& a, const WorkTotals& b, const Combine& combine) {
    combine(a.flops, b.flops);
    combine(a.bytes, b.bytes);
    combine(a.sent_bytes, b.sent_bytes);
    combine(a.compute_s, b.compute_s);
    combine(a.optimizer_s, b.optimizer_s);
    combine(a.exposed_s, b.exposed_s);
    combine(a.num_operations, b.num_operations);
    for (size_t i = 0; i < a.class_seconds.size(); ++i) {
        combine(a.class_seconds[i], b.class_seconds[i]);
        combine(a.class_flops[i], b.class_flops[i]);
    }
}

}  // namespace

WorkTotals WorkTotals::operator-(const WorkTotals& other) const {
    WorkTotals result = *this;
    combine_all(result, other, [](double& a, double b) { a -= b; });
    return result;
}

WorkTotals WorkTotals::operator+(const WorkTotals& other) const {
    WorkTotals result = *this;
    combine_all(result, other, [](double& a, double b) { a += b; });
    return result;
}

WorkTotals WorkTotals::operator*(double factor) const {
    WorkTotals result = *this;
    combine_all(result, result, [factor](double& a, double) { a *= factor; });
    return result;
}

}  // namespace lathe
