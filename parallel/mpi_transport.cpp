#include "parallel/mpi_transport.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "parallel/mpi_check.h"

namespace lathe {
namespace {

/// A message travels in pieces of at least this size, at most kMaxPieces of them: MPI counts in
/// int, and each finished piece shows that a long transfer moves.
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kMaxPieces = 64;

/// Owns a communicator's handle.
class CommHandle {
  public:
    explicit CommHandle(MPI_Comm comm) : comm_(comm) {
        MPI_CHECK(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
    }
    CommHandle(const CommHandle&) = delete;
    CommHandle& operator=(const CommHandle&) = delete;
    ~CommHandle() {
        // After a failure freeing would wait for the other ranks.
        if (!abandoned_) {
            MPI_Comm_free(&comm_);
        }
    }
    MPI_Comm get() const { return comm_; }
    void abandon() { abandoned_ = true; }

  private:
    MPI_Comm comm_;
    bool abandoned_ = false;
};

class MpiTransport final : public Transport {
  public:
    MpiTransport(MPI_Comm comm, AbortFunction abort, EndedFunction has_ended)
        : comm_(comm), abort_(std::move(abort)), has_ended_(std::move(has_ended)) {
        MPI_CHECK(MPI_Comm_rank(comm, &rank_));
        MPI_CHECK(MPI_Comm_size(comm, &size_));
    }

    int rank() const override { return rank_; }
    int size() const override { return size_; }

    void send(int peer, const void* data, int64_t bytes, int token) override {
        for_pieces(bytes, [&](int64_t offset, int count) {
            MPI_CHECK(MPI_Isend(static_cast<const std::byte*>(data) + offset, count, MPI_BYTE, peer,
                                kTag, comm_.get(), add_request(token, false)));
        });
    }
    void receive(int peer, void* data, int64_t bytes, int token) override {
        for_pieces(bytes, [&](int64_t offset, int count) {
            MPI_CHECK(MPI_Irecv(static_cast<std::byte*>(data) + offset, count, MPI_BYTE, peer, kTag,
                                comm_.get(), add_request(token, true)));
        });
    }

    bool poll(std::vector<int>& done) override {
        int count = 0;
        indices_.resize(requests_.size());
        MPI_CHECK(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                               indices_.data(), MPI_STATUSES_IGNORE));
        count = std::max(count, 0);  // MPI_UNDEFINED: nothing is under way
        for (int i = 0; i < count; ++i) {
            const int token = owners_[static_cast<size_t>(indices_[static_cast<size_t>(i)])].token;
            if (--parts_left_[static_cast<size_t>(token)] == 0) {
                done.push_back(token);
            }
        }
        if (count > 0) {
            drop_finished_requests();
        }
        return count > 0;
    }

    void idle(double waited_s) override {
        // First it spins, for answers that are under way. Then it gives way: with more ranks than
        // cores those it waits for may need this core. Then it sleeps, ever longer: waiting for a
        // rank that computes must not slow the computing, and adds at most 1/16 to the wait.
        if (waited_s < kSpin_s) {
            return;
        }
        if (waited_s < kYield_s) {
            sched_yield();
            return;
        }
        std::this_thread::sleep_for(
            std::chrono::duration<double>(std::min(waited_s / 16, kLongestSleep_s)));
    }

    void abandon() noexcept override {
        for (size_t i = 0; i < requests_.size(); ++i) {
            if (owners_[i].is_receive && requests_[i] != MPI_REQUEST_NULL) {
                MPI_Cancel(&requests_[i]);  // lest it writes where memory is being given back
            }
        }
        requests_.clear();
        owners_.clear();
        comm_.abandon();
    }

    std::unique_ptr<Transport> subgroup(std::span<const int> members, int64_t) override {
        const auto place = std::find(members.begin(), members.end(), rank_) - members.begin();
        MPI_Comm comm = MPI_COMM_NULL;
        MPI_CHECK(MPI_Comm_split(comm_.get(), members.front(), static_cast<int>(place), &comm));
        return std::make_unique<MpiTransport>(comm, abort_, has_ended_);
    }

    bool has_ended(int world_rank) const override { return has_ended_(world_rank); }

    void abort(int world_rank, const std::string& reason, int exit_code) noexcept override {
        abort_(world_rank, reason, exit_code);
    }

  private:
    static constexpr int kTag = 0;
    static constexpr double kSpin_s = 20e-6;
    static constexpr double kYield_s = 500e-6;
    static constexpr double kLongestSleep_s = 1e-3;

    struct Owner {
        int token;
        bool is_receive;
    };

    template <typename Body>
    static void for_pieces(int64_t bytes, const Body& body) {
        const int64_t piece = std::max(kPieceBytes, (bytes + kMaxPieces - 1) / kMaxPieces);
        for (int64_t offset = 0; offset < bytes; offset += piece) {
            body(offset, static_cast<int>(std::min(piece, bytes - offset)));
        }
    }

    /// To be filled at once: the next call moves it.
    MPI_Request* add_request(int token, bool is_receive) {
        if (parts_left_.size() <= static_cast<size_t>(token)) {
            parts_left_.resize(static_cast<size_t>(token) + 1);
        }
        ++parts_left_[static_cast<size_t>(token)];
        owners_.push_back({token, is_receive});
        return &requests_.emplace_back(MPI_REQUEST_NULL);
    }

    void drop_finished_requests() {
        size_t kept = 0;
        for (size_t i = 0; i < requests_.size(); ++i) {
            if (requests_[i] != MPI_REQUEST_NULL) {
                requests_[kept] = requests_[i];
                owners_[kept] = owners_[i];
                ++kept;
            }
        }
        requests_.resize(kept);
        owners_.resize(kept);
    }

    CommHandle comm_;
    AbortFunction abort_;
    EndedFunction has_ended_;
    int rank_ = 0;
    int size_ = 0;
    std::vector<MPI_Request> requests_;
    std::vector<Owner> owners_;    ///< of each request
    std::vector<int> parts_left_;  ///< by token
    std::vector<int> indices_;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(AbortFunction abort, EndedFunction has_ended) {
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
    return std::make_unique<MpiTransport>(comm, std::move(abort), std::move(has_ended));
}

}  // namespace lathe
