#include "train/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include "kernels/error.h"

namespace lathe {

std::shared_ptr<spdlog::logger> make_run_logger(const std::string& file) {
    try {
        auto to_file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
        to_file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
        auto to_terminal = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
        to_terminal->set_level(spdlog::level::warn);
        to_terminal->set_pattern("%^%l%$: %v");
        auto logger =
            std::make_shared<spdlog::logger>("run", spdlog::sinks_init_list{to_file, to_terminal});
        // Each line is in the kernel when the call returns: a killed run keeps its log.
        logger->flush_on(spdlog::level::info);
        return logger;
    } catch (const spdlog::spdlog_ex& error) {
        fail("{}", error.what());
    }
}

}  // namespace lathe
