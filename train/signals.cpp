#include "train/signals.h"

#include <csignal>

namespace lathe {
namespace {

// A signal handler can reach nothing but static storage.
volatile std::sig_atomic_t received_signal = 0;

void remember(int signal) { received_signal = signal == SIGUSR1 ? SIGTERM : signal; }

void install(int signal) {
    struct sigaction action = {};
    action.sa_handler = remember;
    // After the first delivery the default action is back: an impatient second Ctrl-C ends the
    // process at once.
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    sigaction(signal, &action, nullptr);
}

}  // namespace

SignalWatch::SignalWatch() {
    received_signal = 0;
    install(SIGINT);
    install(SIGTERM);
    install(SIGUSR1);
}

SignalWatch::~SignalWatch() {
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
    std::signal(SIGUSR1, SIG_DFL);
}

int SignalWatch::received() const { return received_signal; }

}  // namespace lathe
