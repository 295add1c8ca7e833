// A library to preload (LD_PRELOAD) into a process under test: it counts the calls that change
// files whose path holds $FILE_FAULTS_PATH, and at the call number $FILE_FAULTS_AT
//   $FILE_FAULTS_ACTION = kill   kills the process: of a write half the bytes are written, any
//   other
//                                call is not made
//                         full   has the call fail as on a full disk
// Where $FILE_FAULTS_RANK is set, in that MPI rank only. $FILE_FAULTS_TRACE gets a line a call:
// rank, number, what, path ("read": opened for reading, not counted, number 0).
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

const char* variable(const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? "" : text;
}

const char* rank() { return variable("OMPI_COMM_WORLD_RANK"); }

bool concerns(const std::string& path) {
    const char* part = variable("FILE_FAULTS_PATH");
    return *part != '\0' && path.find(part) != std::string::npos;
}

std::string path_of(int descriptor) {
    const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
    std::string path(4096, '\0');
    const ssize_t size = readlink(link.c_str(), path.data(), path.size());
    path.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return path;
}

/// The path that a call names relative to a folder's descriptor.
std::string path_at(int folder, const char* name) {
    return folder == AT_FDCWD || *name == '/' ? name : path_of(folder) + "/" + name;
}

void trace(int number, const char* what, const std::string& path) {
    const char* file = variable("FILE_FAULTS_TRACE");
    if (*file == '\0') {
        return;
    }
    const std::string line = std::string(*rank() == '\0' ? "0" : rank()) + " " +
                             std::to_string(number) + " " + what + " " + path + "\n";
    const auto descriptor =
        static_cast<int>(syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND, 0644));
    syscall(SYS_write, descriptor, line.data(), line.size());
    syscall(SYS_close, descriptor);
}

enum class Fate { made, killed, refused };

Fate fate_of_call(const char* what, const std::string& path) {
    static std::atomic<int> num_calls = 0;
    if (!concerns(path)) {
        return Fate::made;
    }
    const int number = ++num_calls;
    trace(number, what, path);
    const char* chosen = variable("FILE_FAULTS_RANK");
    if (number != std::atoi(variable("FILE_FAULTS_AT")) ||
        (*chosen != '\0' && std::strcmp(chosen, rank()) != 0)) {
        return Fate::made;
    }
    return std::strcmp(variable("FILE_FAULTS_ACTION"), "kill") == 0 ? Fate::killed : Fate::refused;
}

[[noreturn]] void die() {
    while (true) {
        kill(getpid(), SIGKILL);
    }
}

/// The C library's own.
template <typename Function>
Function* original(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

/// A call that is made whole or not at all.
template <typename Call>
int make_call(const char* what, const std::string& path, const Call& call) {
    switch (fate_of_call(what, path)) {
        case Fate::killed:
            die();
        case Fate::refused:
            errno = ENOSPC;
            return -1;
        case Fate::made:
            break;
    }
    return call();
}

template <typename Call>
ssize_t make_write(int descriptor, size_t size, const Call& call) {
    switch (fate_of_call("write", path_of(descriptor))) {
        case Fate::killed:
            call(size / 2);
            die();
        case Fate::refused:
            errno = ENOSPC;
            return -1;
        case Fate::made:
            break;
    }
    return call(size);
}

int make_open(const char* name, int flags, mode_t mode) {
    static auto* const next = original<int(int, const char*, int, ...)>("openat");
    const std::string path = name;
    if ((flags & O_CREAT) != 0) {
        return make_call("create", path, [&] { return next(AT_FDCWD, name, flags, mode); });
    }
    if (concerns(path) && (flags & (O_WRONLY | O_RDWR | O_DIRECTORY)) == 0) {
        trace(0, "read", path);
    }
    return next(AT_FDCWD, name, flags, mode);
}

mode_t mode_in(int flags, va_list arguments) {
    return (flags & O_CREAT) != 0 ? static_cast<mode_t>(va_arg(arguments, unsigned)) : 0;
}

}  // namespace

extern "C" {

#define DEFINE_OPEN(name)                              \
    int name(const char* path, int flags, ...) {       \
        va_list arguments;                             \
        va_start(arguments, flags);                    \
        const mode_t mode = mode_in(flags, arguments); \
        va_end(arguments);                             \
        return make_open(path, flags, mode);           \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
#undef DEFINE_OPEN

ssize_t write(int descriptor, const void* data, size_t size) {
    static auto* const next = original<ssize_t(int, const void*, size_t)>("write");
    return make_write(descriptor, size,
                      [&](size_t bytes) { return next(descriptor, data, bytes); });
}

ssize_t pwrite(int descriptor, const void* data, size_t size, off_t offset) {
    static auto* const next = original<ssize_t(int, const void*, size_t, off_t)>("pwrite");
    return make_write(descriptor, size,
                      [&](size_t bytes) { return next(descriptor, data, bytes, offset); });
}

int fsync(int descriptor) {
    static auto* const next = original<int(int)>("fsync");
    return make_call("sync", path_of(descriptor), [&] { return next(descriptor); });
}

int rename(const char* from, const char* to) noexcept {
    static auto* const next = original<int(const char*, const char*)>("rename");
    return make_call("rename", to, [&] { return next(from, to); });
}

int mkdir(const char* path, mode_t mode) noexcept {
    static auto* const next = original<int(const char*, mode_t)>("mkdir");
    return make_call("mkdir", path, [&] { return next(path, mode); });
}

int unlink(const char* path) noexcept {
    static auto* const next = original<int(const char*)>("unlink");
    return make_call("remove", path, [&] { return next(path); });
}

int unlinkat(int folder, const char* name, int flags) noexcept {
    static auto* const next = original<int(int, const char*, int)>("unlinkat");
    return make_call("remove", path_at(folder, name), [&] { return next(folder, name, flags); });
}

}  // extern "C"
