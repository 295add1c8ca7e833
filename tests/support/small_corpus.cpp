#include "tests/support/small_corpus.h"

#include <array>
#include <random>

#include "kernels/error.h"
#include "kernels/files.h"

namespace lathe::testing {

std::string small_corpus(int64_t bytes, unsigned seed) {
    constexpr std::array kSubjects = {"the miller", "a fox",   "the old king",
                                      "my sister",  "the sea", "a stranger"};
    constexpr std::array kVerbs = {"saw", "followed", "forgot", "carried", "heard", "built"};
    constexpr std::array kObjects = {"the house",     "a lantern", "two ships",
                                     "the long road", "a song",    "the gate"};
    constexpr std::array kPlaces = {"by the river", "at night", "in the hills", "before winter",
                                    "after all"};
    std::minstd_rand random(seed);
    const auto pick = [&](const auto& words) { return words[random() % words.size()]; };
    std::string text;
    while (static_cast<int64_t>(text.size()) < bytes) {
        text += fmt::format("{} {} {} {}.", pick(kSubjects), pick(kVerbs), pick(kObjects),
                            pick(kPlaces));
        text += random() % 6 == 0 ? "\n\n" : "\n";
    }
    return text;
}

std::string prepare_small_data(const TemporaryFolder& folder, int64_t bytes) {
    write_file(folder / "corpus.txt", small_corpus(bytes));
    const ProcessResult result = run_lathe({"prepare", "--input", folder / "corpus.txt", "--output",
                                            folder / "data", "--vocab-size", "320"});
    LATHE_CHECK(result.exit_code == 0, "lathe prepare failed: {}", result.err);
    return folder / "data";
}

}  // namespace lathe::testing
