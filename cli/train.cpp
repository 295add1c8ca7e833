// lathe train
#include <memory>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/run_options.h"
#include "parallel/launch.h"
#include "train/device.h"
#include "train/run.h"

namespace lathe {
namespace {

int run_train(const RunOptions& options) {
    const std::unique_ptr<Launch> launch = join_launch();
    return run_in_job(*launch, [&] {
        const RunConfig config = load_run_config(options.config_file(), options.overrides());
        const RankPlace& place = launch->place();
        const std::unique_ptr<Backend> backend =
            make_backend(config.device, place, config.parallel.overlap && place.size > 1);
        const std::unique_ptr<Communicator> world =
            launch->make_world(*backend, config.parallel.collective_timeout);
        // What goes wrong is told while the device and the world are still there: taking them down
        // could wait for ranks that never come.
        return run_in_job(*launch,
                          [&] { return run_training(config, *backend, *world, launch->place()); });
    });
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
    CLI::App* command =
        app.add_subcommand("train", "Train a model on a folder made by lathe prepare.");
    auto options = std::make_shared<RunOptions>();
    add_run_options(*command, *options);
    command->callback([&action, options] { action = [options] { return run_train(*options); }; });
}

}  // namespace lathe
