#include "kernels/ptxemu/interpreter/shadow.h"

#include "kernels/ptxemu/interpreter/report.h"

namespace ptxemu {

void Shadow::reset(u32 bytes) {
    bytes_ = bytes;
    Rec z{0, 0, 0, kNone, kNone, kNone, kNone, kNone, kNone, 0, 0};
    word_.assign((bytes + 3) / 4, z);
    if (byte_.size() < word_.size() * 4) byte_.resize(word_.size() * 4);
}

void Shadow::split(u32 wd) {
    Rec r = word_[wd];
    word_[wd].flags |= kSplit;
    for (int b = 0; b < 4; ++b) byte_[wd * 4 + b] = r;
}

// f(byte offset, length, record); full words stay whole
template <class F>
void Shadow::each(u32 off, u32 size, bool write, F&& f) {
    u32 end = off + size;
    while (off < end) {
        u32 wd = off / 4;
        if (off % 4 == 0 && end - off >= 4) {
            Rec& r = word_[wd];
            if (!(r.flags & kSplit)) {
                f(off, 4u, r);
                off += 4;
                continue;
            }
            for (int b = 0; b < 4; ++b) f(off + b, 1u, byte_[wd * 4 + b]);
            if (write) r = byte_[wd * 4];  // whole again
            off += 4;
            continue;
        }
        if (!(word_[wd].flags & kSplit)) split(wd);
        f(off, 1u, byte_[off]);
        ++off;
    }
}

void Shadow::race(Warp& w, const Ins& i, int lane, u32 at, const char* what, u8 ow, u8 ol) {
    bool same = ow == w.id;
    if (same ? !opt().race_warp : !opt().race) return;
    std::string s = std::string("shared-memory ") + what + " with warp " + std::to_string(ow);
    if (ol < 32) s += " (thread " + std::to_string(ow * 32 + ol) + ")";
    s += same ? ": lanes of one warp without __syncwarp in between" : ": no barrier in between";
    report(same ? Fault::WarpRace : Fault::Race, &w, &i, lane, kSharedBase + at, true, s);
}

void Shadow::read_one(Warp& w, const Ins& i, int lane, u32 at, Rec& r, bool every) {
    if (!(r.flags & kInit)) {
        if (r.flags & kPending)
            report(Fault::AsyncRead, &w, &i, lane, kSharedBase + at, true,
                   "read of an asynchronous copy's destination before its wait");
        else if (opt().init)
            report(Fault::Uninit, &w, &i, lane, kSharedBase + at, true,
                   "read of uninitialised shared memory");
    }
    if (r.ww != kNone) {
        if (r.ww != w.id) {
            if (w.vc[r.ww] < r.wclk) race(w, i, lane, at, "race: read after write", r.ww, r.wl);
        } else if (r.wclk == w.clock && (r.wl != lane || every)) {
            race(w, i, lane, at, "race: read after write", r.ww, r.wl);
        }
    }
    u8 me = (u8)w.id, l = every ? kAnyLane : (u8)lane;
    if (r.rw == me) {
        r.rl = r.rclk == w.clock && r.rl != l ? kAnyLane : l;
        r.rclk = w.clock;
    } else if (r.r2w == me) {
        r.r2l = r.r2clk == w.clock && r.r2l != l ? kAnyLane : l;
        r.r2clk = w.clock;
    } else {
        r.r2w = r.rw;
        r.r2l = r.rl;
        r.r2clk = r.rclk;
        r.rw = me;
        r.rl = l;
        r.rclk = w.clock;
    }
}

void Shadow::write_one(Warp& w, const Ins& i, int lane, u32 at, Rec& r, bool same, bool atomic) {
    if (r.flags & kPending)
        report(Fault::AsyncRead, &w, &i, lane, kSharedBase + at, true,
               "write to an asynchronous copy's destination before its wait");
    bool both_atomic = atomic && (r.flags & kAtomic);
    if (r.ww != kNone && !same && !both_atomic) {
        if (r.ww != w.id) {
            if (w.vc[r.ww] < r.wclk) race(w, i, lane, at, "race: write after write", r.ww, r.wl);
        } else if (r.wclk == w.clock && r.wl != lane)
            race(w, i, lane, at, "race: write after write", r.ww, r.wl);
    }
    if (!both_atomic) {
        auto reader = [&](u8 rw, u8 rl, u32 rc) {
            if (rw == kNone) return;
            if (rw != w.id) {
                if (w.vc[rw] < rc) race(w, i, lane, at, "race: write after read", rw, rl);
            } else if (rc == w.clock && rl != lane)
                race(w, i, lane, at, "race: write after read", rw, rl);
        };
        reader(r.rw, r.rl, r.rclk);
        reader(r.r2w, r.r2l, r.r2clk);
    }
    r.ww = (u8)w.id;
    r.wl = (u8)lane;
    r.wclk = w.clock;
    r.rw = r.r2w = kNone;
    r.flags = (u8)(kInit | (atomic ? kAtomic : 0));
}

void Shadow::read(Warp& w, const Ins& i, int lane, u32 off, u32 size, bool every) {
    each(off, size, false, [&](u32 at, u32, Rec& r) { read_one(w, i, lane, at, r, every); });
}
void Shadow::write(Warp& w, const Ins& i, int lane, u32 off, u32 size, const u8* old,
                   const u8* now) {
    each(off, size, true, [&](u32 at, u32 n, Rec& r) {
        write_one(w, i, lane, at, r,
                  (r.flags & kInit) && memcmp(old + (at - off), now + (at - off), n) == 0, false);
    });
}
void Shadow::atomic(Warp& w, const Ins& i, int lane, u32 off, u32 size) {
    each(off, size, true, [&](u32 at, u32, Rec& r) {
        if (!(r.flags & kInit) && opt().init)
            report(Fault::Uninit, &w, &i, lane, kSharedBase + at, true,
                   "atomic on uninitialised shared memory");
        write_one(w, i, lane, at, r, false, true);
    });
}
void Shadow::issue(Warp& w, const Ins& i, int lane, u32 off, u32 size) {
    each(off, size, true, [&](u32 at, u32, Rec& r) {
        write_one(w, i, lane, at, r, false, false);
        r.flags = kPending;
    });
}
void Shadow::deliver(Warp& w, int lane, u32 off, u32 size, bool tracked) {
    each(off, size, true, [&](u32, u32, Rec& r) {
        r.ww = tracked ? (u8)w.id : kNone;
        r.wl = (u8)lane;
        r.wclk = w.clock;
        r.rw = r.r2w = kNone;
        r.flags = kInit;
    });
}
void Shadow::mark_init(u32 off, u32 size) {
    each(off, size, true, [&](u32, u32, Rec& r) {
        r.flags = kInit;
        r.ww = kNone;
        r.rw = r.r2w = kNone;
    });
}

}  // namespace ptxemu
