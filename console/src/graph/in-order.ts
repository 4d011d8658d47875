import type { UsageChangedSubscription } from "@keymark/client/documents";
import type { Exchange, OperationResult } from "@urql/core";
import { filter, fromArray, fromValue, map, mergeMap, pipe, tap } from "wonka";

/**
 * Corrects the order of results from HTTP and the WebSocket before they reach the cache:
 * - a change, or the response to a mutation, that carries an older revision of a system than one already received is
 *   delivered with the newest one;
 * - the use of keys that a system no longer has, or has in another role, is not delivered;
 * - changes that arrive while a query is in flight are delivered again after its response, which may predate them.
 */
export const inOrderExchange: Exchange =
  ({ forward }) =>
  (operations) => {
    const newest = new Map<string, Revised>();
    /** Changes received while a query is in flight, by the key of the query. */
    const receivedInFlight = new Map<number, OperationResult[]>();
    return pipe(
      operations,
      tap(({ kind, key }) => {
        if (kind === "query") receivedInFlight.set(key, []);
        else if (kind === "teardown") receivedInFlight.delete(key);
      }),
      forward,
      map((result) => {
        for (const system of systemsIn(result.data)) {
          const known = newest.get(system.id);
          if (known === undefined || system.revision >= known.revision) {
            newest.set(system.id, system);
          }
        }
        if (result.operation.kind === "query") return result;
        return { ...result, data: withNewest(result.data, newest) };
      }),
      mergeMap((result) => {
        const { kind, key } = result.operation;
        if (kind === "subscription") {
          for (const changes of receivedInFlight.values()) changes.push(result);
        }
        const changes = receivedInFlight.get(key) ?? [];
        receivedInFlight.delete(key);
        return changes.length === 0 ? fromValue(result) : fromArray([result, ...changes]);
      }),
      filter(({ data }) => !isOutdatedUse(data, newest)),
    );
  };

interface Revised extends Keys {
  id: string;
  revision: number;
}

/** Returns every system in a result, at any depth. */
export function systemsIn(data: unknown): Revised[] {
  if (typeof data !== "object" || data === null) return [];
  return isRevised(data) ? [data] : Object.values(data).flatMap(systemsIn);
}

const isRevised = (data: object): data is Revised =>
  "id" in data &&
  typeof data.id === "string" &&
  "revision" in data &&
  typeof data.revision === "number";

/** Returns the data with each system replaced by its newest known revision. */
function withNewest(data: unknown, newest: ReadonlyMap<string, Revised>): unknown {
  if (typeof data !== "object" || data === null || Array.isArray(data)) return data;
  if (isRevised(data)) return newest.get(data.id) ?? data;
  return Object.fromEntries(
    Object.entries(data).map(([field, value]) => [field, withNewest(value, newest)]),
  );
}

/** Whether the data is the use of keys, and the keys are not those of the newest known revision of their system. */
function isOutdatedUse(data: unknown, newest: ReadonlyMap<string, Revised>): boolean {
  if (typeof data !== "object" || data === null || !("usageChanged" in data)) return false;
  const { usageChanged: used } = data as UsageChangedSubscription;
  const known = newest.get(used.id);
  return known !== undefined && keysOf(used) !== keysOf(known);
}

interface Keys {
  currentKey?: { generatedAt: string } | null;
  retiringKey?: { generatedAt: string } | null;
}

const keysOf = ({ currentKey, retiringKey }: Keys): string =>
  `${currentKey?.generatedAt} ${retiringKey?.generatedAt}`;
