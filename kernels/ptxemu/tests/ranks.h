// Tests of several processes, as mpirun would start them.
#pragma once
#include <nccl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

// Runs body(rank, id) in n processes. Their checks count; a reported fault ends this process with
// the emulator's code, too.
static void run_ranks(int n, void (*body)(int rank, ncclUniqueId id)) {
    ncclUniqueId id;
    ncclGetUniqueId(&id);
    fflush(stdout);
    int* results =
        (int*)mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int r = 0; r < n; ++r) {
        if (fork()) continue;
        num_passed = num_failed = 0;
        cudaSetDevice(r);
        body(r, id);
        results[2 * r] = num_passed;
        results[2 * r + 1] = num_failed;
        exit(0);
    }
    int code = 0;
    for (int r = 0; r < n; ++r) {
        int status;
        wait(&status);
        if (WIFEXITED(status) && WEXITSTATUS(status)) code = WEXITSTATUS(status);
    }
    for (int r = 0; r < n; ++r) {
        num_passed += results[2 * r];
        num_failed += results[2 * r + 1];
    }
    if (code) _exit(code);
}

// A rank that ends without a word, as by a crash.
static void die() { kill(getpid(), SIGKILL); }
