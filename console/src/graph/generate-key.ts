import {
  type EnforcementPartsFragment,
  GenerateKeyDocument,
  type GenerateKeyMutation,
  type GenerateKeyMutationVariables,
  RotateKeyDocument,
  type RotateKeyMutationVariables,
} from "@keymark/client/documents";
import { type Client, CombinedError, type Exchange } from "@urql/core";
import { map, pipe } from "wonka";

/** A key in full. Only the dialog that shows it may hold one. */
export interface NewKey {
  apiKey: string;
  systemName: string;
  mark: string | null;
  /** When the key ends; null if never. */
  expiresAt: string | null;
  /** Whether the key replaces another one. */
  rotated: boolean;
  /** The key before, if it goes on for an overlap. */
  retiring: { mark: string; expiresAt: string | null } | null;
  enforcement: EnforcementPartsFragment;
}

type NewKeyResult = { newKey: NewKey } | { error: CombinedError };

/** The part of an operation's context that takes the key. */
interface ApiKeyReceiver {
  receiveApiKey: (apiKey: string) => void;
}

const isReceiver = (context: object): context is ApiKeyReceiver =>
  "receiveApiKey" in context && typeof context.receiveApiKey === "function";

export const generateKey = (
  client: Client,
  variables: GenerateKeyMutationVariables,
): Promise<NewKeyResult> =>
  receiveKey(false, async (receiver) => {
    const { data, error } = await client.mutation(GenerateKeyDocument, variables, receiver);
    return { payload: data?.generateKey, error };
  });

export const rotateKey = (
  client: Client,
  variables: RotateKeyMutationVariables,
): Promise<NewKeyResult> =>
  receiveKey(true, async (receiver) => {
    const { data, error } = await client.mutation(RotateKeyDocument, variables, receiver);
    return { payload: data?.rotateKey, error };
  });

interface Response {
  payload: GenerateKeyMutation["generateKey"] | undefined;
  error: CombinedError | undefined;
}

/** Requests a key. The key bypasses the cache, which receives only the system. */
async function receiveKey(
  rotated: boolean,
  request: (receiver: ApiKeyReceiver) => Promise<Response>,
): Promise<NewKeyResult> {
  let apiKey = "";
  const { payload, error } = await request({
    receiveApiKey: (received) => {
      apiKey = received;
    },
  });
  if (!payload) {
    return { error: error ?? new CombinedError({ networkError: new Error("no response") }) };
  }
  const { system, enforcement } = payload;
  const newKey: NewKey = {
    apiKey,
    systemName: system.name,
    mark: system.keyMark,
    expiresAt: system.currentKey?.expiresAt ?? null,
    rotated,
    retiring: system.retiringKey,
    enforcement,
  };
  apiKey = "";
  return { newKey };
}

/** The mutations whose payload contains a key. */
const GENERATING = ["generateKey", "rotateKey"] as const;

/** Passes a new key to the receiver in the operation's context, and removes it from the result. */
export const extractApiKeyExchange: Exchange =
  ({ forward }) =>
  (operations) =>
    pipe(
      forward(operations),
      map((result) => {
        const { context } = result.operation;
        const field = GENERATING.find((name) => payloadOf(result.data, name) !== undefined);
        if (field === undefined || !isReceiver(context)) return result;
        const payload = payloadOf(result.data, field);
        context.receiveApiKey(payload?.apiKey ?? "");
        return { ...result, data: { [field]: { ...payload, apiKey: "" } } };
      }),
    );

function payloadOf(data: unknown, field: string): { apiKey: string } | undefined {
  if (typeof data !== "object" || data === null) return undefined;
  return (data as Record<string, { apiKey: string } | null>)[field] ?? undefined;
}
