import type { Exchange, OperationResult } from "@urql/core";
import { fromArray, fromValue, map, mergeMap, pipe, tap } from "wonka";

/**
 * Puts right what HTTP and the WebSocket deliver in different orders, before the cache sees it:
 * - a change that is older than what is known of its system brings the newest image of it instead of its own;
 * - an answer that was on its way while changes arrived may not know of them: they follow it once more.
 */
export const inOrderExchange: Exchange =
  ({ forward }) =>
  (operations) => {
    const newest = new Map<string, Revised>();
    const arrivedSince = new Map<number, OperationResult[]>();
    return pipe(
      operations,
      tap(({ kind, key }) => {
        if (kind === "query") arrivedSince.set(key, []);
        else if (kind === "teardown") arrivedSince.delete(key);
      }),
      forward,
      map((result) => {
        for (const system of systemsIn(result.data)) {
          const known = newest.get(system.id);
          if (known === undefined || system.revision >= known.revision) {
            newest.set(system.id, system);
          }
        }
        if (result.operation.kind !== "subscription") return result;
        return { ...result, data: withNewest(result.data, newest) };
      }),
      mergeMap((result) => {
        const { kind, key } = result.operation;
        if (kind === "subscription") {
          for (const missed of arrivedSince.values()) missed.push(result);
        }
        const missed = arrivedSince.get(key) ?? [];
        arrivedSince.delete(key);
        return missed.length === 0 ? fromValue(result) : fromArray([result, ...missed]);
      }),
    );
  };

interface Revised {
  id: string;
  revision: number;
}

/** Every system in an answer, however deep. */
export function systemsIn(data: unknown): Revised[] {
  if (typeof data !== "object" || data === null) return [];
  return isRevised(data) ? [data] : Object.values(data).flatMap(systemsIn);
}

const isRevised = (data: object): data is Revised =>
  "id" in data &&
  typeof data.id === "string" &&
  "revision" in data &&
  typeof data.revision === "number";

/** The same with each system as it is known by now. */
function withNewest(data: unknown, newest: ReadonlyMap<string, Revised>): unknown {
  if (typeof data !== "object" || data === null || Array.isArray(data)) return data;
  if (isRevised(data)) return newest.get(data.id) ?? data;
  return Object.fromEntries(
    Object.entries(data).map(([field, value]) => [field, withNewest(value, newest)]),
  );
}
