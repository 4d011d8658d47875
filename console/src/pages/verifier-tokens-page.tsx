import { type VerifierTokenPartsFragment, VerifierTokensDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { TokenPage } from "../components/token-page";
import { VERIFIER_TOKEN_CHANGES } from "../live/actions";
import { useList } from "../live/use-list";

/** The tokens with which gateways and services verify keys. */
export const VerifierTokensPage = () => (
  <TokenPage<VerifierTokenPartsFragment>
    kind="verifier"
    advice="Gateways and services verify API keys with a verifier token. Give each its own: then you can revoke one without stopping the others."
    scopeLabel="Verifies"
    scope={({ tenant }) => (tenant === null ? "Keys of all tenants" : "Keys of this tenant")}
    useTokens={useVerifierTokens}
    rotatable={undefined}
  />
);

function useVerifierTokens() {
  const client = useClient();
  return useList({
    actions: VERIFIER_TOKEN_CHANGES,
    async load(page) {
      const options = { requestPolicy: "network-only" } as const;
      const { data, error } = await client.query(VerifierTokensDocument, page, options);
      return { page: data?.verifierTokens, error };
    },
  });
}
