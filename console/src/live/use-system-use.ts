import { keepOpen } from "@keymark/client";
import {
  type KeyUseFragment,
  SystemUseDocument,
  UsageChangedDocument,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { type Sample, withSample } from "../text/calls";
import { failureOf } from "../text/failures";
import { consume } from "./consume";
import { useObservable } from "./observable";
import { useLiveQuery } from "./use-live-query";

const HOUR_MS = 3_600_000;

/** The use of one key. */
export interface KeyUse {
  lastUsedAt: string | null;
  /** The calls that were counted since the page was opened. */
  samples: readonly Sample[];
}

export interface SystemUse {
  lastUsedAt: string | null;
  /** Undefined until the use of that key is known. */
  of: (key: { mark: string; generatedAt: string }) => KeyUse | undefined;
  /** How often the key that ended last was refused since, and when last. */
  refusals: { count: number; lastAt: string | null } | undefined;
}

/** Follows the use of a system's keys. Undefined until it is known, and for operators who may not view systems. */
export function useSystemUse(id: string): SystemUse | undefined {
  const client = useClient();
  const mayView = useMay("view");
  const { connection } = useSession();
  const { reconnections } = useObservable(connection);
  // Counts since a fixed time only grow, so that their differences are calls.
  const [from] = useState(() => new Date(Date.now() - (Date.now() % HOUR_MS)).toISOString());
  const [{ data }, execute] = useLiveQuery(
    SystemUseDocument,
    { id, from },
    mayView ? "cache-and-network" : "cache-only",
  );
  useEffect(() => {
    if (!mayView) return;
    const controller = new AbortController();
    const { signal } = controller;
    void keepOpen(signal, () =>
      consume(
        client.subscription(UsageChangedDocument, { systemId: id, from }),
        signal,
        ({ error }) => {
          if (error && failureOf(error).code === "NOT_FOUND") controller.abort();
        },
      ),
    );
    return () => controller.abort();
  }, [client, id, from, mayView]);
  // Use has no cursor to resume from.
  const connected = useRef(reconnections);
  useEffect(() => {
    if (connected.current === reconnections) return;
    connected.current = reconnections;
    if (mayView) execute({ requestPolicy: "network-only" });
  }, [reconnections, mayView, execute]);

  const samples = useRef(new Map<string, readonly Sample[]>());
  const system = data?.system;
  if (!system) return undefined;
  const keys = [system.currentKey, system.retiringKey].filter((key) => key !== null);
  // A key that appears later was generated since, so that all of its calls are new.
  const isFirst = samples.current.size === 0;
  for (const key of keys) {
    const at = Date.now();
    const before = samples.current.get(idOf(key)) ?? (isFirst ? [] : [{ at, accepted: 0 }]);
    samples.current.set(idOf(key), withSample(before, { at, accepted: key.usage.accepted }));
  }
  const { lastKey } = system;
  return {
    lastUsedAt: system.lastUsedAt,
    of(key) {
      const known = keys.find((other) => idOf(other) === idOf(key));
      return (
        known && {
          lastUsedAt: known.lastUsedAt,
          samples: samples.current.get(idOf(known)) ?? [],
        }
      );
    },
    refusals: lastKey ? { count: lastKey.refusals, lastAt: lastKey.lastRefusedAt } : undefined,
  };
}

const idOf = ({ mark, generatedAt }: Pick<KeyUseFragment, "mark" | "generatedAt">): string =>
  `${mark} ${generatedAt}`;
