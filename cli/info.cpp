// lathe info: what this machine is and does at best.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.h"
#include "cli/run_options.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/files.h"
#include "plan/calibration.h"
#include "train/device.h"
#include "train/matmul_ceiling.h"

namespace lathe {
namespace {

struct InfoOptions {
    std::string version;
    RunOverrides device;
    std::string hardware_file;
    bool json = false;
};

struct DeviceReport {
    DeviceInfo device;
    double f32_flops = 0.0;
    double bf16_flops = 0.0;
    double bytes_per_second = 0.0;
    std::string no_gpu;  ///< why `--device auto` chose the CPU, else empty
};

DeviceReport measure(const DeviceConfig& config) {
    const auto backend = make_backend(config);
    return {.device = backend->device(),
            .f32_flops = matmul_ceiling(*backend, DType::f32),
            .bf16_flops = matmul_ceiling(*backend, DType::bf16),
            .bytes_per_second = memory_bandwidth(*backend),
            .no_gpu = config.device == DeviceKind::automatic ? cuda_complaint() : ""};
}

void print_json(const std::string& version, const DeviceReport& report) {
    const nlohmann::ordered_json json = {
        {"version", version},
        {"device", report.device.kind},
        {"name", report.device.name},
        {"threads", report.device.num_threads},
        {"preferred_dtype", name_of(report.device.preferred_dtype)},
        {"matmul_flops_per_second", {{"f32", report.f32_flops}, {"bf16", report.bf16_flops}}},
        {"memory_bytes_per_second", report.bytes_per_second}};
    // A processor's name is whatever its maker wrote: never a reason to fail.
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const std::string& version, const DeviceReport& report) {
    fmt::print("Lathe {}\n", version);
    fmt::print("device           {}: {}\n", report.device.kind, report.device.name);
    if (!report.no_gpu.empty()) {
        fmt::print("no GPU, because  {}\n", report.no_gpu);
    }
    fmt::print("threads          {}\n", report.device.num_threads);
    fmt::print("--dtype auto is  {}\n", name_of(report.device.preferred_dtype));
    fmt::print(
        "matrix products  {:.1f} GFLOP/s in f32, {:.1f} in bf16 (the ceiling that "
        "utilization is a fraction of)\n",
        report.f32_flops / 1e9, report.bf16_flops / 1e9);
    fmt::print("memory           {:.1f} GB/s\n", report.bytes_per_second / 1e9);
}

/// This CPU as lathe plan --hardware FILE takes it.
void describe(DeviceConfig config, const InfoOptions& options) {
    LATHE_CHECK_USAGE(config.device != DeviceKind::cuda,
                      "--hardware {}: only a CPU is measured; use --device cpu",
                      options.hardware_file);
    config.device = DeviceKind::cpu;
    const DType compute = compute_dtype(config, *make_backend(config));
    const Hardware hardware = measure_this_cpu(static_cast<int>(config.threads), compute);
    write_file(options.hardware_file,
               to_toml(hardware, fmt::format("# Measured by lathe {} info on {} threads, computing "
                                             "in {}. Links between nodes and their latencies are "
                                             "assumed.\n\n",
                                             options.version, hardware.cores, name_of(compute))));
}

int run_info(const InfoOptions& options) {
    const DeviceConfig config = load_run_config(std::nullopt, options.device).device;
    if (!options.hardware_file.empty()) {
        describe(config, options);
    }
    const DeviceReport report = measure(config);
    if (options.json) {
        print_json(options.version, report);
    } else {
        print_text(options.version, report);
    }
    return 0;
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
    CLI::App* command = app.add_subcommand(
        "info", "Show the device, and measure its matrix products and its memory.");
    auto options = std::make_shared<InfoOptions>();
    options->version = app.version();
    CLI::Option* const hardware =
        command
            ->add_option("--hardware", options->hardware_file,
                         "measure each kind of operation too, and write a description of this CPU "
                         "for lathe plan")
            ->type_name("FILE");
    for (const RunField& field : run_fields()) {
        if (field.section == "device") {
            CLI::Option* const option = add_field_option(*command, field, options->device);
            if (field.key == "dtype") {
                option->needs(hardware);  // the rest is measured in both types
            }
        }
    }
    command->add_flag("--json", options->json, "as JSON");
    command->callback([&action, options] { action = [options] { return run_info(*options); }; });
}

}  // namespace lathe
