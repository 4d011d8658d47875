import { CombinedError, type Exchange, type OperationResult } from "@urql/core";
import { map, pipe } from "wonka";

/** The mutations whose payload contains a secret that is shown once, and the field that has it. */
const SECRETS = {
  generateKey: "apiKey",
  rotateKey: "apiKey",
  addOperator: "password",
  resetOperatorPassword: "password",
  createServiceToken: "token",
  rotateServiceToken: "token",
  createVerifierToken: "token",
} as const;

/** The policy of mutations with a password among their variables: the cache keeps those of any other, for good. */
export const UNKEPT = { requestPolicy: "network-only" } as const;

/** The part of an operation's context that takes the secret. */
export interface SecretReceiver {
  receiveSecret: (secret: string) => void;
}

const isReceiver = (context: object): context is SecretReceiver =>
  "receiveSecret" in context && typeof context.receiveSecret === "function";

export type SecretResult<Data> = { secret: string; data: Data } | { error: CombinedError };

/** Requests a secret. It bypasses the cache, which receives the rest of the payload. */
export async function receiveSecret<Data>(
  request: (receiver: SecretReceiver) => PromiseLike<OperationResult<Data>>,
): Promise<SecretResult<Data>> {
  let secret = "";
  const { data, error } = await request({
    receiveSecret: (received) => {
      secret = received;
    },
  });
  if (!data) {
    return { error: error ?? new CombinedError({ networkError: new Error("no response") }) };
  }
  const result = { secret, data };
  secret = "";
  return result;
}

/** Passes a secret to the receiver in the operation's context, and removes it from the result. */
export const extractSecretExchange: Exchange =
  ({ forward }) =>
  (operations) =>
    pipe(
      forward(operations),
      map((result) => {
        const { context } = result.operation;
        const mutation = MUTATIONS.find((name) => payloadOf(result.data, name) !== undefined);
        if (mutation === undefined || !isReceiver(context)) return result;
        const payload = payloadOf(result.data, mutation);
        const field = SECRETS[mutation];
        context.receiveSecret(payload?.[field] ?? "");
        return { ...result, data: { [mutation]: { ...payload, [field]: "" } } };
      }),
    );

const MUTATIONS = Object.keys(SECRETS) as (keyof typeof SECRETS)[];

function payloadOf(data: unknown, mutation: string): Record<string, string> | undefined {
  if (typeof data !== "object" || data === null) return undefined;
  return (data as Record<string, Record<string, string> | null>)[mutation] ?? undefined;
}
