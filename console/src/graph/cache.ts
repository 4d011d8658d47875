import type {
  CreateSystemMutation,
  DeleteSystemMutation,
  RenameSystemMutation,
  SystemChangedSubscription,
  SystemsQuery,
} from "@keymark/client/documents";
import type { CacheExchangeOpts, KeyingConfig } from "@urql/exchange-graphcache";
import { moveUpdatedSystem, recordEnd, removeSystem, upsertSystem } from "./loaded-systems";

/** Types without an id: their values are cached with the field that returned them. */
const EMBEDDED = [
  "AddOperatorPayload",
  "AuditActor",
  "AuditEntryConnection",
  "ChangePasswordPayload",
  "CreateServiceTokenPayload",
  "CreateSystemPayload",
  "CreateVerifierTokenPayload",
  "DeleteSystemPayload",
  "DeleteTenantPayload",
  "DescribeSystemPayload",
  "EndRotationPayload",
  "EndSessionsPayload",
  "Enforcement",
  "GenerateKeyPayload",
  "Instance",
  "OperatorConnection",
  "OperatorPayload",
  "PageInfo",
  "RemoveOperatorPayload",
  "RenameSystemPayload",
  "ResumeSystemPayload",
  "RevokeKeyPayload",
  "RevokeTokenPayload",
  "RotateKeyPayload",
  "ServiceTokenConnection",
  "SetExternalIdPayload",
  "SetKeyExpiryPayload",
  "SignInPayload",
  "SignOutPayload",
  "SuspendSystemPayload",
  "SystemChange",
  "SystemConnection",
  "TenantConnection",
  "TenantPayload",
  "TenantPolicy",
  "Usage",
  "VerifierTokenConnection",
];

const keys: KeyingConfig = {
  ...Object.fromEntries(EMBEDDED.map((type) => [type, () => null])),
  // A key has no id; its mark and time identify it, so that what is cached of one is never taken for another's.
  ApiKey: ({ mark, generatedAt }) => `${mark} ${generatedAt}`,
  EndedKey: ({ mark, endedAt }) => `${mark} ${endedAt}`,
};

/** Results update entities by their id; only the lists that contain a system need explicit updates. */
export const cacheOptions: CacheExchangeOpts = {
  keys,
  resolvers: {
    Query: {
      // Resolves to the system that a list has already loaded, without a request; a deleted one stays null.
      system: (_parent, variables, cache) =>
        cache.resolve("Query", "system", variables) === null
          ? null
          : { __typename: "System", id: String(variables.id) },
    },
  },
  updates: {
    Query: {
      systems({ systems }: SystemsQuery, _arguments, cache) {
        recordEnd(cache, systems);
      },
    },
    Mutation: {
      createSystem({ createSystem }: CreateSystemMutation, _arguments, cache) {
        upsertSystem(cache, createSystem.system);
      },
      renameSystem({ renameSystem }: RenameSystemMutation, _arguments, cache) {
        upsertSystem(cache, renameSystem.system);
      },
      deleteSystem({ deleteSystem }: DeleteSystemMutation, _arguments, cache) {
        removeSystem(cache, deleteSystem.deletedSystemId);
      },
    },
    Subscription: {
      systemChanged({ systemChanged }: SystemChangedSubscription, _arguments, cache) {
        const { kind, system, systemId } = systemChanged;
        if (system === null) removeSystem(cache, systemId);
        else if (kind === "CREATED" || kind === "RENAMED") upsertSystem(cache, system);
        else moveUpdatedSystem(cache, system);
      },
    },
  },
};
