// Transport: messages between the ranks of one group.
//
// Nothing blocks: work is started with a token, a small number not in use, and the token comes back
// once it is done. Messages from one rank to another arrive in the order of sending. One thread at
// a time uses a Transport.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lathe {

class Transport {
  public:
    virtual ~Transport() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;

    /// Start to move `bytes` (> 0) to or from another rank. Both sides name the same number. The
    /// memory must stay until the token comes back.
    virtual void send(int peer, const void* data, int64_t bytes, int token) = 0;
    virtual void receive(int peer, void* data, int64_t bytes, int token) = 0;

    /// Moves things on. Adds to `done` the tokens of what is done since the last call, and returns
    /// whether anything moved. Throws Error when the job was aborted.
    virtual bool poll(std::vector<int>& done) = 0;
    /// Lets others run, when for `waited_s` seconds nothing has moved.
    virtual void idle(double waited_s) = 0;
    /// Forgets what was started and is not done: a failed Transport serves no more.
    virtual void abandon() noexcept = 0;

    /// The group of `members` (ranks here, this one among them) in that order. Every rank calls it,
    /// each with its own group's members, with the same `serial`, which no earlier call had.
    virtual std::unique_ptr<Transport> subgroup(std::span<const int> members, int64_t serial) = 0;

    /// Whether it is certain that this rank of the world is no more: not for its silence alone.
    virtual bool has_ended(int world_rank) const = 0;
    /// Ends the job; see Communicator::abort. `world_rank` is the caller's.
    virtual void abort(int world_rank, const std::string& reason, int exit_code) noexcept = 0;
};

}  // namespace lathe
