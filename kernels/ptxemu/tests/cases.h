// Programs of many small cases: `program NAME` runs one. CMake reads the names, the expected report
// and the settings from the lines that start with FAULT (a planted fault: the emulator must report
// it) and SILENT (a correct program: it must not).
#pragma once
#include <string>
#include <utility>

#include "common.h"

struct Cases {
    static std::vector<std::pair<std::string, void (*)()>>& all() {
        static std::vector<std::pair<std::string, void (*)()>> cases;
        return cases;
    }
    Cases(const char* name, void (*run)()) { all().push_back({name, run}); }
};

// FAULT(name, "what the report says" [, "SETTING=1 OTHER=2"]) { body }
#define FAULT(name, ...) CASE(name)
// SILENT(name [, "SETTING=1 OTHER=2"]) { body }: fails by a check of its own or by any report
#define SILENT(name, ...) CASE(name)
#define CASE(name)                         \
    static void name();                    \
    static Cases name##_case(#name, name); \
    static void name()

int main(int argc, char** argv) {
    for (auto& [name, run] : Cases::all()) {
        if (argc != 2 || name != argv[1]) continue;
        run();
        cudaDeviceSynchronize();
        printf("%d checks passed, %d failed\n", num_passed, num_failed);
        return num_failed != 0;
    }
    printf("usage: %s CASE\n", argv[0]);
    return 2;
}
