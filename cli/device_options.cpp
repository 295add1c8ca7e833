#include "cli/device_options.h"

#include "cli/run_options.h"

namespace lathe {

void DeviceOptions::add_to(CLI::App& command) {
    for (const RunField& field : run_fields()) {
        if (field.section == "device") {
            add_field_option(command, field, given_);
        }
    }
}

DeviceConfig DeviceOptions::config() const { return load_run_config({}, given_).device; }

}  // namespace lathe
