// lathe: one binary, one subcommand a file. Exit codes: 0 done, 1 failed, 2 bad usage or
// configuration, 130 and 143 stopped by a signal after a checkpoint.
#include <exception>
#include <new>
#include <string>

#include "cli/command_line.h"
#include "cli/openmp.h"
#include "kernels/error.h"

int main(int argc, char** argv) {
    constexpr int kFailed = 1;
    lathe::shorten_openmp_spin(argv);
    try {
        return lathe::run_command_line(argc, argv);
    } catch (const lathe::UsageError& error) {
        return lathe::report(error.what(), lathe::kBadUsage);
    } catch (const std::bad_alloc&) {
        return lathe::report("out of memory", kFailed);
    } catch (const std::exception& error) {
        return lathe::report(error.what(), kFailed);
    }
}
