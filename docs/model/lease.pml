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
 *  - one key, one revocation; the revoker follows LOG from a position of its own, may crash
 *    after the write (-DCRASH), and the client then retries at another server.
 *  - loss of the stream: the instance drops its state, starts a new stream, re-hydrates.
 *  - on-demand fill (two steps: read the database, insert later), eviction at any time.
 *  - clocks: `now` is real time; instance clocks may run slow by up to D ticks (-DD=1).
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
 *  BUG_FORGET    fast path trusts a view of the fleet that is younger than one lease
 *  BUG_SKIP      after stream loss the stream restarts at the end without re-hydration
 *  BUG_NOWAIT    the revoker returns after the majority write alone
 *  BUG_DRIFT     (with -DD=1) the revoker waits L, not L + D
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
#ifndef D
#define D 0
#endif
#ifdef BUG_DRIFT
#define W L
#else
#define W (L + D)
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
#else
#define CLK(i) now
#endif
#define DB ((revpos != NONE) -> 2 : 1)
#ifdef STRICT
bool sawack[4];              /* [i*2+j] instance i has received j's ack in its stream  */
byte seenat[NI];             /* i's clock when it applied the revoke                  */
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
  :: now >= TMAX -> break
  od
}

proctype Prober(byte i) {
  do
  :: d_step { nseq[i] < NPROBE && flying[i] == 0 ->
       nseq[i]++;
       sentat[i*4 + nseq[i]] = CLK(i);
       flying[i] = nseq[i];
#ifdef BUG_ACKEARLY
       flyack[i] = (revpos != NONE)
#else
       flyack[i] = (revpos != NONE && pos[i] > revpos)
#endif
     }
  :: d_step { flying[i] != 0 && loglen < LOGMAX ->
       append(i, flying[i], flyack[i]); flying[i] = 0; flyack[i] = false }
  :: now >= TMAX -> break
  od
}

proctype Follower(byte i) {
  byte e; bool lost = false; bool evicted = false;
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
       :: else -> skip
       fi;
#ifdef STRICT
       if :: who[e] < REV && ackd[e] -> sawack[i*2 + who[e]] = true :: else -> skip fi;
#endif
       pos[i] = e + 1; e = 0
     }
#ifdef LOSS
  :: d_step { !lost && revpos != NONE ->     /* stream lost (useful only around the revoke) */
       lost = true;
       pos[i] = loglen;                     /* new stream starts at the current end        */
#ifndef BUG_SKIP
       deadline[i] = 0; cache[i] = 0; clean[i] = false;
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
  d_step { cache[i] == 0 -> clean[i] = true }
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
  byte v; byte c; bool afterrev; bool afterrej;
  d_step { afterrev = revoke_returned;
#ifdef STRICT
           afterrej = reject_returned
#endif
         }
#ifdef BUG_LOADLATE
  c = cache[i]; v = deadline[i];
#else
  v = deadline[i]; c = cache[i];
#endif
  if
  :: atomic { CLK(i) < v && c == 1 ->
       assert(!afterrev); assert(!afterrej) }
  :: atomic { CLK(i) < v && c == 2 }
#ifdef STRICT
#ifndef BUG_REJECT
     /* stall until the barrier is provably complete from this instance's own view */
     ; (sawack[i*2 + (1-i)] || (pos[i] > revpos && now >= seenat[i] + W) || now >= TMAX)
     ; if :: now >= TMAX -> goto out :: else -> skip fi
#endif
     ; reject_returned = true
#endif
  :: atomic { !(CLK(i) < v && c != 0) -> c = DB }           /* read-through, linearizable */
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

bool seen[4]; byte obs[4]; bool gotack[4];      /* [revoker*2 + i] */

/* instance i can no longer hold a lease that predates the revoke */
#ifdef BUG_FORGET
#define UNSEEN(i) (!seen[f*2+i])
#else
#define UNSEEN(i) (!seen[f*2+i] && now >= t0 + W)
#endif
#define ACC(i) (gotack[f*2+i] || (seen[f*2+i] && now >= obs[f*2+i] + W) || UNSEEN(i))
#if NI == 2
#define ACCOUNTED (ACC(0) && ACC(1))
#else
#define ACCOUNTED ACC(0)
#endif

proctype Revoker(byte f) {
  byte p; byte t0; byte a; bool found;
  d_step { t0 = now; p = loglen }                 /* own stream starts, any moment       */
  d_step { loglen < LOGMAX ->
    if
    :: revpos == NONE -> revpos = loglen; append(REV, 0, false)
    :: else -> found = true
    fi
  }
  a = now;                                        /* majority acknowledgement, own clock */
#ifdef BUG_NOWAIT
  goto done;
#endif
#ifdef CRASH
  if :: f == 0 -> goto dead :: skip fi;
#endif
#ifdef BUG_IDEMP
  if :: found -> goto done :: else -> skip fi;
#endif
  do
  :: d_step { p < loglen ->
       if
       :: who[p] < REV && ackd[p] -> gotack[f*2 + who[p]] = true
       :: who[p] < REV && !ackd[p] && p < revpos ->
            seen[f*2 + who[p]] = true; obs[f*2 + who[p]] = now
       :: else -> skip
       fi;
       p = p + 1 }
  :: atomic { now >= a + W -> goto done }         /* slow path: needs no stream          */
  :: atomic { p > revpos && ACCOUNTED ->          /* fast path                           */
       goto done }
  :: now >= TMAX -> goto dead
  od;
done:
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
    run Revoker(0);
#ifdef CRASH
    run Revoker(1);
#endif
  }
}
