import type { CacheExchangeOpts, KeyingConfig } from "@urql/exchange-graphcache";
import type {
  CreateSystemMutation,
  DeleteSystemMutation,
  SystemChangedSubscription,
} from "../gql/graphql";
import { forgetSystem, showSystem } from "./loaded-systems";

/** Values that belong to the field that gave them; whatever else the console reads has an id. */
const EMBEDDED = [
  "AuditEntryConnection",
  "CreateSystemPayload",
  "DeleteSystemPayload",
  "Enforcement",
  "GenerateKeyPayload",
  "PageInfo",
  "RevokeKeyPayload",
  "SignInPayload",
  "SignOutPayload",
  "SystemChange",
  "SystemConnection",
];

const keys: KeyingConfig = Object.fromEntries(EMBEDDED.map((type) => [type, () => null]));

/** Entities are updated by whatever brings them; only which lists a system is in needs saying. */
export const cacheOptions: CacheExchangeOpts = {
  keys,
  updates: {
    Mutation: {
      createSystem({ createSystem }: CreateSystemMutation, _arguments, cache) {
        showSystem(cache, createSystem.system);
      },
      deleteSystem({ deleteSystem }: DeleteSystemMutation, _arguments, cache) {
        forgetSystem(cache, deleteSystem.deletedSystemId);
      },
    },
    Subscription: {
      systemChanged({ systemChanged }: SystemChangedSubscription, _arguments, cache) {
        const { kind, system, systemId } = systemChanged;
        if (system === null) forgetSystem(cache, systemId);
        else if (kind === "CREATED" || kind === "RENAMED") showSystem(cache, system);
      },
    },
  },
};
