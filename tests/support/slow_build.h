// Sanitizers slow everything down about tenfold: tests whose cost is their size use smaller sizes.
#pragma once

namespace lathe::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSlowBuild = true;
#else
inline constexpr bool kSlowBuild = false;
#endif

}  // namespace lathe::test
