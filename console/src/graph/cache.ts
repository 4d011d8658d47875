import type { CacheExchangeOpts, KeyingConfig } from "@urql/exchange-graphcache";
import type {
  CreateSystemMutation,
  DeleteSystemMutation,
  RenameSystemMutation,
  SystemChangedSubscription,
} from "../gql/graphql";
import { forgetSystem, showSystem } from "./loaded-systems";

/** Values that belong to the field that gave them; whatever else the console reads has an id. */
const EMBEDDED = [
  "AuditActor",
  "AuditEntryConnection",
  "ChangePasswordPayload",
  "CreateSystemPayload",
  "DeleteSystemPayload",
  "Enforcement",
  "GenerateKeyPayload",
  "PageInfo",
  "RenameSystemPayload",
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
  resolvers: {
    Query: {
      // A system that a list has loaded need not be waited for; one that is gone stays gone.
      system: (_parent, given, cache) =>
        cache.resolve("Query", "system", given) === null
          ? null
          : { __typename: "System", id: String(given.id) },
    },
  },
  updates: {
    Mutation: {
      createSystem({ createSystem }: CreateSystemMutation, _arguments, cache) {
        showSystem(cache, createSystem.system);
      },
      renameSystem({ renameSystem }: RenameSystemMutation, _arguments, cache) {
        showSystem(cache, renameSystem.system);
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
