// A disk that is nearly full, for one test.
#pragma once

#include <sys/resource.h>

#include <csignal>

#include "kernels/error.h"

namespace lathe {

/// While it lives this process can let no file grow beyond `bytes`; writing fails with EFBIG.
class FileSizeLimit {
  public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        LATHE_CHECK(::getrlimit(RLIMIT_FSIZE, &before_) == 0, "getrlimit failed");
        const rlimit limit{bytes, before_.rlim_max};
        LATHE_CHECK(::setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit failed");
    }
    ~FileSizeLimit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  private:
    rlimit before_{};
    void (*handler_)(int);
};

}  // namespace lathe
