import { type ServiceTokenPartsFragment, ServiceTokensDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { TokenPage } from "../components/token-page";
import { SERVICE_TOKEN_CHANGES } from "../live/actions";
import { useList } from "../live/use-list";
import { codesText } from "../text/permissions";

/** The tokens with which backends call the API. */
export const ServiceTokensPage = () => (
  <TokenPage<ServiceTokenPartsFragment>
    kind="service"
    advice="A backend calls Keymark's API with a service token, instead of somebody's password."
    scopeLabel="Codes"
    scope={({ permissions, isPlatform }) => (
      <>
        {codesText(permissions)} {isPlatform && <span class="badge neutral">Platform</span>}
      </>
    )}
    useTokens={useServiceTokens}
    rotatable={(token) => token}
  />
);

function useServiceTokens() {
  const client = useClient();
  return useList({
    actions: SERVICE_TOKEN_CHANGES,
    async load(page) {
      const options = { requestPolicy: "network-only" } as const;
      const { data, error } = await client.query(ServiceTokensDocument, page, options);
      return { page: data?.serviceTokens, error };
    },
  });
}
