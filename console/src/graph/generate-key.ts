import { type Client, CombinedError, type Exchange } from "@urql/core";
import { map, pipe } from "wonka";
import {
  type EnforcementPartsFragment,
  GenerateKeyDocument,
  type GenerateKeyMutation,
} from "../gql/graphql";

/** A key in full. Only the dialog that shows it may hold one. */
export interface NewKey {
  apiKey: string;
  systemName: string;
  mark: string | null;
  enforcement: EnforcementPartsFragment;
}

type GenerateKeyResult = { newKey: NewKey } | { error: CombinedError };

/** The part of an operation's context that takes the key. */
interface ApiKeyReceiver {
  receiveApiKey: (apiKey: string) => void;
}

const isReceiver = (context: object): context is ApiKeyReceiver =>
  "receiveApiKey" in context && typeof context.receiveApiKey === "function";

/** Generates a key. The key bypasses the cache, which receives only the system. */
export async function generateKey(client: Client, systemId: string): Promise<GenerateKeyResult> {
  let apiKey = "";
  const receiver: ApiKeyReceiver = {
    receiveApiKey: (received) => {
      apiKey = received;
    },
  };
  const { data, error } = await client.mutation(GenerateKeyDocument, { systemId }, receiver);
  if (!data) {
    return { error: error ?? new CombinedError({ networkError: new Error("no response") }) };
  }
  const { system, enforcement } = data.generateKey;
  const newKey = { apiKey, systemName: system.name, mark: system.keyMark, enforcement };
  apiKey = "";
  return { newKey };
}

/** Passes a generated key to the receiver in the operation's context, and removes it from the result. */
export const extractApiKeyExchange: Exchange =
  ({ forward }) =>
  (operations) =>
    pipe(
      forward(operations),
      map((result) => {
        const { context } = result.operation;
        const generated = generatedIn(result.data);
        if (generated === undefined || !isReceiver(context)) return result;
        context.receiveApiKey(generated.apiKey);
        return { ...result, data: { generateKey: { ...generated, apiKey: "" } } };
      }),
    );

function generatedIn(data: unknown): GenerateKeyMutation["generateKey"] | undefined {
  if (typeof data !== "object" || data === null || !("generateKey" in data)) return undefined;
  return (data as GenerateKeyMutation).generateKey ?? undefined;
}
