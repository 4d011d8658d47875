import {
  type EnforcementPartsFragment,
  GenerateKeyDocument,
  type GenerateKeyMutation,
  type GenerateKeyMutationVariables,
  RotateKeyDocument,
  type RotateKeyMutationVariables,
} from "@keymark/client/documents";
import type { Client, CombinedError } from "@urql/core";
import { markOf } from "../text/pasted-key";
import { receiveSecret, type SecretResult } from "./secrets";

/** A key in full. Only the dialog that shows it may hold one. */
export interface NewKey {
  apiKey: string;
  systemName: string;
  mark: string;
  /** When the key ends; null if never. */
  expiresAt: string | null;
  /** Whether the key replaces another one. */
  rotated: boolean;
  /** The key before, if it goes on for an overlap. */
  retiring: { mark: string; expiresAt: string | null } | null;
  enforcement: EnforcementPartsFragment;
}

type NewKeyResult = { newKey: NewKey } | { error: CombinedError };

export async function generateKey(
  client: Client,
  variables: GenerateKeyMutationVariables,
): Promise<NewKeyResult> {
  const result = await receiveSecret((receiver) =>
    client.mutation(GenerateKeyDocument, variables, receiver),
  );
  return newKeyOf(result, false, ({ generateKey: payload }) => payload);
}

export async function rotateKey(
  client: Client,
  variables: RotateKeyMutationVariables,
): Promise<NewKeyResult> {
  const result = await receiveSecret((receiver) =>
    client.mutation(RotateKeyDocument, variables, receiver),
  );
  return newKeyOf(result, true, ({ rotateKey: payload }) => payload);
}

function newKeyOf<Data>(
  result: SecretResult<Data>,
  rotated: boolean,
  payloadOf: (data: Data) => GenerateKeyMutation["generateKey"],
): NewKeyResult {
  if ("error" in result) return result;
  const { system, enforcement } = payloadOf(result.data);
  const mark = markOf(result.secret);
  // The system may have changed again since, and its keys be others.
  const isCurrent = system.keyMark === mark;
  const newKey: NewKey = {
    apiKey: result.secret,
    systemName: system.name,
    mark,
    expiresAt: (isCurrent && system.currentKey?.expiresAt) || null,
    rotated: rotated && isCurrent,
    retiring: system.retiringKey,
    enforcement,
  };
  result.secret = "";
  return { newKey };
}
