import { type Client, CombinedError, type Exchange } from "@urql/core";
import { map, pipe } from "wonka";
import {
  type EnforcementPartsFragment,
  GenerateKeyDocument,
  type GenerateKeyMutation,
} from "../gql/graphql";

/** A key in full, which nothing but the dialog that shows it may hold. */
export interface NewKey {
  apiKey: string;
  mark: string | null;
  enforcement: EnforcementPartsFragment;
}

type Generated = { newKey: NewKey } | { error: CombinedError };

interface Receiver {
  receiveApiKey: (apiKey: string) => void;
}

const isReceiver = (context: object): context is Receiver =>
  "receiveApiKey" in context && typeof context.receiveApiKey === "function";

/** Generates a key past the cache: the cache takes in the system alone. */
export async function generateKey(client: Client, systemId: string): Promise<Generated> {
  let apiKey = "";
  const receiver: Receiver = {
    receiveApiKey: (received) => {
      apiKey = received;
    },
  };
  const { data, error } = await client.mutation(GenerateKeyDocument, { systemId }, receiver);
  if (!data) {
    return { error: error ?? new CombinedError({ networkError: new Error("no answer") }) };
  }
  const { system, enforcement } = data.generateKey;
  const newKey = { apiKey, mark: system.keyMark, enforcement };
  apiKey = "";
  return { newKey };
}

/** Hands a generated key over to whoever asked for it, and takes it out of what goes on to the cache. */
export const keyTakenOutExchange: Exchange =
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
