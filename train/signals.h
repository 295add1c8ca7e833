// Interruptions: a signal sets a flag, which the training loop reads at step boundaries.
#pragma once

namespace lathe {

/// While it lives, the first SIGINT, SIGTERM or SIGUSR1 is remembered instead of ending the
/// process; a second one ends it. SIGUSR1 counts as SIGTERM: mpirun passes it on to its ranks and
/// leaves them their time, while after SIGTERM it kills them within a second or two. At most one at
/// a time.
class SignalWatch {
  public:
    SignalWatch();
    SignalWatch(const SignalWatch&) = delete;
    SignalWatch& operator=(const SignalWatch&) = delete;
    ~SignalWatch();

    /// The signal that came, or 0.
    int received() const;
};

}  // namespace lathe
