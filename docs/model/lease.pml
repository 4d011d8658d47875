/*
 * Freshness leases for linearizable revocation -- Promela model, checked with SPIN 6.5.2.
 *
 * Models the protocol of src/coherence/ at small bounds: Follower and Prober are the
 * instance that follows the feed and renews its lease (Coherence::run_incarnation), Verify
 * is the order in which a verification reads deadline, entry and clock (Coherence::read),
 * and Revoker waits for acknowledgements (Protocol::take_enforced).  FILL and STRICT are
 * not implemented: the cache always contains every key, and a reject returns immediately.
 * Change this model before you change the protocol.  check.sh runs every variant.
 *
 * Modelled
 *  - LOG: the majority-committed oplog, one total order.  Change streams deliver only
 *    majority-committed entries, so writes that roll back simply never enter LOG; a
 *    failover is a period in which nothing is appended.
 *  - NI verifying instances.  Each follows LOG at its own pace (any lag; a pause is a
 *    process that is not scheduled).  A probe is stamped with the local clock BEFORE it is
 *    sent, enters LOG after any delay or never, and extends the lease only when the
 *    instance receives it from LOG.
 *  - one key, one revocation; the revoker follows LOG from a position of its own.
 *  - a repeat (-DCRASH): another server may commit the revoke first and then crash, and the client
 *    repeats it at the revoker.  A first server that does not crash adds nothing: both only read
 *    what the other instances do, so in a run in which the first server returns first the
 *    revoker's steps can be left out, and else what the first server does after its commit.
 *  - loss of the stream: the instance drops its state, starts a new stream, re-hydrates.
 *  - a stream that starts on a branch (-DBRANCH with -DLOSS): the entry after the current end was
 *    written by a primary that is deposed, and the stream misses the entry that takes its place.
 *    It joins: nothing is read before LOG has reached the position where the stream starts, as it
 *    has when the stream delivers an entry of the instance's own.
 *  - on-demand fill (two steps: read the database, insert later), eviction at any time.
 *  - clocks: `now` is real time; instance clocks may run slow by up to D ticks (-DD=1).
 *  - two clocks (-DCLOCKS): the boot clock of an instance may be slewed, so that it loses up to
 *    SLEW ticks, and its machine may sleep, during which the raw clock stops; the boot clock of
 *    the revoker may gain ticks.  The holder of a lease compares the boot clock, and the raw
 *    clock plus the time asleep, with a deadline each, which are published and loaded one
 *    after the other.  Oscillators are exact, so the revoker waits without a margin.
 *  - listings: the revoker reads the lease of an instance as of any position of LOG.  If it began
 *    after its stream has delivered the revoke, the position is after the revoke.  It keeps the
 *    time when it first found the lease as it is.  A lease that it does not find is not waited for;
 *    the model has no deletion, see ReleasedEarly and DeletedRenewed in planted_bugs.rs.
 *  - lengths (-DLENGTHS): the leases of the instance are longer (L) than the revoker's (OWN).
 *    For its timer the revoker reads them after the commit; each is in the store from the first
 *    probe that entered LOG.
 *
 * Exhaustive: check.sh visits every state of each variant that holds (no bitstate hashing, no limit
 * on the depth), up to TMAX ticks, NPROBE probes and NLIST listings.  All variants have one instance
 * (NI), one revoke, two listings, and at most one loss, eviction or failover; there are two probes
 * within two ticks and without a further flag, otherwise one probe.  Several instances, repeated
 * losses and longer runs are in src/coherence/simulation.rs, at random.
 * -DSTRICT is not exhaustive: no error is known, but it is only searched with BUG_REJECT.
 *
 * Property: no accept whose verify was invoked after a revoke returned success.
 * -DSTRICT adds: no accept invoked after some verify had returned a reject
 * (no new-old inversion: the key is then an atomic register, not just a regular one).
 *
 * Deliberately broken variants; SPIN must find an error in each:
 *  BUG_TTLSTART  lease counted from when the probe is received, not from when it is sent
 *  BUG_LOADLATE  verify reads the entry first and loads the lease deadline afterwards
 *  BUG_FILL      a fill inserts although an event for the key was applied meanwhile
 *  BUG_STALEREAD a fill reads at a position older than the one the instance has applied
 *  BUG_IDEMP     a retry that finds the key revoked returns at once, without the barrier
 *  BUG_ACKEARLY  acknowledgement sent when the event is received, before it is applied
 *  BUG_STALELIST the leases are listed as of a position before the revoke
 *  BUG_UNCOVERED a listing counts that began before the stream delivered the revoke
 *  BUG_KEPTAGE   the lease is taken to be as old as the first one of the instance
 *  BUG_LISTEARLY a listing is dated with the time when it began
 *  BUG_MISSING   the lease may be missing while the instance uses its cache
 *  BUG_SKIP      after stream loss the stream restarts at the end without re-hydration
 *  BUG_UNJOINED  (with -DBRANCH) the re-hydration does not wait until the stream has joined
 *  BUG_NOWAIT    the revoker returns after the majority write alone
 *  BUG_DRIFT     (with -DD=1) the revoker waits L, not L + D
 *  BUG_BOOTCLOCK (with -DCLOCKS) the holder uses the boot clock alone
 *  BUG_RAWCLOCK  (with -DCLOCKS) the holder uses the raw clock alone, which stops during sleep
 *  BUG_RAWAWAKE  (with -DCLOCKS) the holder adds no time asleep to the raw clock
 *  BUG_FASTWAIT  (with -DCLOCKS) the revoker waits by its boot clock alone
 *  BUG_OWNLENGTH (with -DLENGTHS) the revoker waits for its own length
 *  BUG_UNLISTED  (with -DLENGTHS) the timer uses the lengths that were known before the commit
 *  BUG_REJECT    (with -DSTRICT) a reject is answered before the barrier is known complete
 */
/* -DLOSS adds loss of the stream, -DFILL adds eviction and on-demand fills. */
/* The revoker's wait is a conjunction over instances, and an accept depends on one instance
 * only, so NI=1 decides the plain property; STRICT relates two instances and needs NI=2. */
#ifdef STRICT
#define NI 2
#else
#define NI 1
#endif
#define REV 9
#ifndef L
#define L 1
#endif
#ifndef TMAX
#define TMAX 3
#endif
#ifndef NPROBE
#define NPROBE 2
#endif
/* Listings of a revoker: one before its stream has delivered the revoke, and one after. */
#ifndef NLIST
#define NLIST 2
#endif
#ifndef D
#define D 0
#endif
#ifdef BUG_DRIFT
#define W L
#elif defined(LENGTHS) && defined(BUG_OWNLENGTH)
#define W OWN
#else
#define W (L + D)
#endif
#ifndef OWN
#define OWN 1
#endif
#ifndef SLEW
#define SLEW 1
#endif
#define LOGMAX 6
#define NONE 255

/* LOG */
byte who[LOGMAX];            /* REV = the revoke, otherwise the prober                */
byte seqn[LOGMAX];
bool ackd[LOGMAX];
byte loglen = 0;
byte revpos = NONE;          /* position of the revoke (optime T); NONE = key active  */

byte now = 0;
bool revoke_returned = false;
bool reject_returned = false;

/* instances */
byte pos[NI];                /* entries applied                                       */
byte cache[NI];              /* 0 absent, 1 active, 2 revoked                         */
byte deadline[NI];           /* lease deadline on the instance's clock                */
bool clean[NI];              /* no event for the key applied since the fill began     */
byte sentat[8];              /* [i*4+n] send time of probe n                          */
byte nseq[NI];
byte firstseq[NI];           /* first probe of the current incarnation                */
byte flying[NI];             /* probe sent, not yet in LOG                            */
bool flyack[NI];
#if D > 0
byte lag[NI];
#define CLK(i) (now - lag[i])
#elif defined(CLOCKS)
byte lost[NI];               /* ticks that the boot clock has lost                    */
byte asleep[NI];             /* ticks asleep                                          */
byte gained = 0;             /* ticks that the revoker's boot clock has gained        */
byte rawdeadline[NI];
byte rawsentat[8];
#ifdef BUG_RAWCLOCK
#define CLK(i) (now - asleep[i])
#else
#define CLK(i) (now - lost[i])
#endif
#if defined(BUG_BOOTCLOCK) || defined(BUG_RAWCLOCK)
#define RAW(i) CLK(i)
#elif defined(BUG_RAWAWAKE)
#define RAW(i) (now - asleep[i])
#else
#define RAW(i) now           /* time awake and time asleep                            */
#endif
#else
#define CLK(i) now
#endif
/* the clock of the revoker */
#if defined(CLOCKS) && defined(BUG_FASTWAIT)
#define RNOW (now + gained)
#else
#define RNOW now
#endif
/* the lease is valid: v and rv are the deadlines that were loaded */
#ifdef CLOCKS
#define VALID (CLK(i) < v && RAW(i) < rv)
#else
#define VALID (CLK(i) < v)
#endif
#define DB ((revpos != NONE) -> 2 : 1)
#ifdef STRICT
bool sawack[4];              /* [i*2+j] instance i has received j's ack in its stream  */
byte seenat[NI];             /* i's clock when it applied the revoke                  */
#endif

#ifdef LENGTHS
bool stored[NI];             /* the instance has a lease in the store                 */
#endif

inline append(w, n, a) {
  who[loglen] = w; seqn[loglen] = n; ackd[loglen] = a; loglen = loglen + 1
}

proctype Clock() {
  do
  :: now < TMAX -> now = now + 1
#if D > 0
  :: atomic { now < TMAX && lag[0] < D -> lag[0]++; now = now + 1 } /* instance 0 slow */
#endif
#ifdef CLOCKS
  :: atomic { now < TMAX && lost[0] < SLEW -> lost[0]++; now = now + 1 }
  :: atomic { now < TMAX -> asleep[0]++; now = now + 1 }
  :: atomic { now < TMAX && gained < SLEW -> gained++; now = now + 1 }
#endif
  :: now >= TMAX -> break
  od
}

proctype Prober(byte i) {
  do
  :: d_step { nseq[i] < NPROBE && flying[i] == 0 ->
       nseq[i]++;
       sentat[i*4 + nseq[i]] = CLK(i);
#ifdef CLOCKS
       rawsentat[i*4 + nseq[i]] = RAW(i);
#endif
       flying[i] = nseq[i];
#ifdef BUG_ACKEARLY
       flyack[i] = (revpos != NONE)
#else
       flyack[i] = (revpos != NONE && pos[i] > revpos)
#endif
     }
  :: d_step { flying[i] != 0 && loglen < LOGMAX ->
       append(i, flying[i], flyack[i]); flying[i] = 0; flyack[i] = false
#ifdef LENGTHS
       ; stored[i] = true
#endif
     }
  :: now >= TMAX -> break
  od
}

proctype Follower(byte i) {
  byte e; bool cut = false; bool evicted = false; byte raw = 0;
  do
  :: d_step { pos[i] < loglen ->
       e = pos[i];
       if
       :: who[e] == REV -> clean[i] = false;
            if :: cache[i] != 0 -> cache[i] = 2 :: else -> skip fi;
#ifdef STRICT
            seenat[i] = now
#endif
       :: who[e] == i && seqn[e] >= firstseq[i] ->
#ifdef BUG_TTLSTART
            deadline[i] = CLK(i) + L
#else
            deadline[i] = sentat[i*4 + seqn[e]] + L
#endif
#ifdef CLOCKS
            ; raw = rawsentat[i*4 + seqn[e]] + L
#endif
       :: else -> skip
       fi;
#ifdef STRICT
       if :: who[e] < REV && ackd[e] -> sawack[i*2 + who[e]] = true :: else -> skip fi;
#endif
       pos[i] = e + 1; e = 0
     }
#ifdef CLOCKS
     if :: raw != 0 -> rawdeadline[i] = raw; raw = 0 :: else -> skip fi
#endif
#ifdef LOSS
#ifdef BRANCH
  :: d_step { !cut ->
       cut = true;
       pos[i] = loglen + 1;                 /* new stream misses the next entry            */
#else
  :: d_step { !cut && revpos != NONE ->      /* stream lost (useful only around the revoke) */
       cut = true;
       pos[i] = loglen;                     /* new stream starts at the current end        */
#endif
#ifndef BUG_SKIP
       deadline[i] = 0;
#ifdef CLOCKS
       rawdeadline[i] = 0;
#endif
       cache[i] = 0; clean[i] = false;
       firstseq[i] = nseq[i] + 1            /* earlier probes belong to the old incarnation */
#endif
     }
#endif
#ifdef FILL
  :: d_step { i == 0 && !evicted && cache[i] != 0 -> evicted = true; cache[i] = 0 } /* eviction */
#endif
  :: now >= TMAX -> break
  od
}

/* on-demand fill or hydration scan: read at a position not older than what is applied */
proctype Filler(byte i) {
  byte rd;
#if defined(BRANCH) && !defined(BUG_UNJOINED)
  d_step { cache[i] == 0 && pos[i] <= loglen -> clean[i] = true }
#else
  d_step { cache[i] == 0 -> clean[i] = true }
#endif
  if
  :: atomic { rd = DB }                                     /* read at the end of LOG    */
#ifdef BUG_STALEREAD
  :: atomic { rd = 1 }                                      /* lagging member, no bound  */
#else
  :: atomic { revpos == NONE || pos[i] <= revpos -> rd = 1 } /* afterClusterTime = applied */
#endif
  fi;
  d_step {
#ifdef BUG_FILL
    cache[i] = rd
#else
    if
    :: clean[i] && cache[i] == 0 -> cache[i] = rd
    :: else -> skip
    fi
#endif
  }
}

proctype Verify(byte i) {
  byte v; byte rv; byte c; bool afterrev; bool afterrej;
  d_step { afterrev = revoke_returned;
#ifdef STRICT
           afterrej = reject_returned
#endif
         }
#ifdef BUG_LOADLATE
  c = cache[i]; v = deadline[i];
#else
  v = deadline[i];
#ifdef CLOCKS
  rv = rawdeadline[i];
#endif
  c = cache[i];
#endif
  if
  :: atomic { VALID && c == 1 ->
       assert(!afterrev); assert(!afterrej) }
  :: atomic { VALID && c == 2 }
#ifdef STRICT
#ifndef BUG_REJECT
     /* stall until the barrier is provably complete from this instance's own view */
     ; (sawack[i*2 + (1-i)] || (pos[i] > revpos && now >= seenat[i] + W) || now >= TMAX)
     ; if :: now >= TMAX -> goto out :: else -> skip fi
#endif
     ; reject_returned = true
#endif
  :: atomic { !(VALID && c != 0) -> c = DB }           /* read-through, linearizable */
     if
     :: c == 1 -> assert(!afterrev); assert(!afterrej)
     :: else ->
#ifdef STRICT
#ifndef BUG_REJECT
       v = now; (now >= v + W || now >= TMAX);
       if :: now >= TMAX -> goto out :: else -> skip fi;
#endif
       reject_returned = true
#else
       skip
#endif
     fi
  fi;
out: skip
}

/* what the revoker knows of each instance */
byte known[2];               /* the lease that was found last, 0 = none               */
byte knownat[2];             /* when it was first found                               */
bool acked[2];               /* it has applied the revoke, or has no lease            */
bool waited[2]; byte from[2]; /* the first listing after the revoke, and how old the lease was */

/* instance i can no longer hold a lease that predates the revoke */
#define ACC(i) (acked[i] || (waited[i] && RNOW >= from[i] + W))
#ifdef LENGTHS
#define TIMER (listed && RNOW >= a + (had -> W : OWN))
#else
#define TIMER (RNOW >= a + W)
#endif
#if NI == 2
#define ACCOUNTED (ACC(0) && ACC(1))
#else
#define ACCOUNTED ACC(0)
#endif

#ifdef CRASH
proctype Crashed() {
  d_step { revpos == NONE && loglen < LOGMAX -> revpos = loglen; append(REV, 0, false) }
}
#endif

proctype Revoker() {
  byte a; bool got = false; bool found = false; bool had = false; bool listed = false;
  byte i; byte q; byte k; byte began; byte lease; bool applied; bool covered; byte phase = 0; byte lists = 0;
  byte change = 0;                                /* 1 = committed, 2 = acknowledged     */
#if defined(LENGTHS) && defined(BUG_UNLISTED)
  had = stored[0];
#endif
  do
  :: d_step { change == 0 && loglen < LOGMAX ->
       if
       :: revpos == NONE -> revpos = loglen; append(REV, 0, false)
       :: else -> found = true
       fi;
       change = 1 }
  :: d_step { change == 1 -> a = RNOW; change = 2 } /* majority acknowledgement, own clock */
#ifdef BUG_NOWAIT
  :: change == 2 -> goto finished
#endif
#ifdef BUG_IDEMP
  :: change == 2 && found -> goto finished
#endif
  :: d_step { change > 0 && !got -> got = true }  /* the own stream delivers the revoke   */
  :: atomic { phase == 0 && lists < NLIST ->      /* a listing                            */
       lists++;
#if NI == 2
       if :: i = 0 :: i = 1 fi;
#endif
       covered = got;
#ifdef BUG_LISTEARLY
       began = RNOW; phase = 1 }
  :: atomic { phase == 1 ->
#endif
       q = loglen;
       do
#ifdef BUG_STALELIST
       :: q > 0 -> q--
#else
       :: q > (covered -> revpos + 1 : 0) -> q--
#endif
       :: break
       od;
       k = 0; lease = 0; applied = false;
       do
       :: k < q -> if :: who[k] == i -> lease = seqn[k]; applied = ackd[k] :: else -> skip fi; k++
       :: else -> break
       od;
#ifdef BUG_MISSING
       if :: lease = 0; applied = false :: skip fi;
#endif
       q = 0; k = 0; phase = 2 }
  :: d_step { phase == 2 ->                       /* the listing is received              */
       if
#ifdef BUG_KEPTAGE
       :: known[i] == 0 && lease != 0 ->
#else
       :: known[i] != lease ->
#endif
            known[i] = lease;
#ifdef BUG_LISTEARLY
            knownat[i] = began
#else
            knownat[i] = RNOW
#endif
       :: else -> skip
       fi;
#ifdef BUG_UNCOVERED
       covered = got;
#endif
       if
       :: covered && (applied || lease == 0) -> acked[i] = true
       :: covered && !applied && lease != 0 && !waited[i] ->
            waited[i] = true; from[i] = knownat[i]
       :: else -> skip
       fi;
       began = 0; covered = false; lease = 0; applied = false; phase = 0 }
#ifdef LENGTHS
#ifdef BUG_UNLISTED
  :: d_step { change == 2 && !listed -> listed = true }
#else
  :: d_step { change == 2 && !listed -> had = stored[0]; listed = true }
#endif
#endif
  :: atomic { change == 2 && TIMER -> goto finished } /* slow path: needs no stream       */
  :: atomic { change == 2 && got && ACCOUNTED -> goto finished } /* fast path             */
  :: now >= TMAX -> goto dead
  od;
finished:
  revoke_returned = true;
dead: skip
}

init {
  d_step {
    cache[0] = 1; firstseq[0] = 1;
#if NI == 2
    cache[1] = 1; firstseq[1] = 1
#endif
  }
  atomic {
    run Clock();
    run Prober(0); run Follower(0);
#if NI == 2
    run Prober(1); run Follower(1);
#endif
    run Verify(0);
#ifdef STRICT
    run Verify(1);
#endif
#if defined(FILL) || defined(LOSS)
    run Filler(0);
#endif
    run Revoker();
#ifdef CRASH
    run Crashed();
#endif
  }
}
