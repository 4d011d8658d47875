import { SystemsDocument } from "@keymark/client/documents";
import { useQuery } from "@urql/preact";
import { Link } from "../router";
import { auditPath, systemPath } from "../routes";
import { KeyMark } from "./key-mark";
import { Name } from "./name";

const MAX_MATCHES = 10;

interface MarkMatchesProps {
  /** A mark, or four characters that may be one. */
  mark: string | undefined;
  /** Whether it is that of a whole key that was pasted. */
  isPasted: boolean;
}

/** The systems whose current or retiring key has a mark, beside those that the search finds by name. */
export function MarkMatches({ mark, isPasted }: MarkMatchesProps) {
  const [{ data, fetching, stale, operation }] = useQuery({
    query: SystemsDocument,
    variables: { filter: { keyMark: mark ?? "" }, first: MAX_MATCHES },
    requestPolicy: "cache-and-network",
    pause: mark === undefined,
  });
  const isCurrent =
    mark !== undefined && !fetching && operation?.variables.filter?.keyMark === mark;
  const systems = isCurrent ? (data?.systems.nodes ?? []) : [];
  const noneHasIt = isCurrent && !stale && data !== undefined && systems.length === 0;
  const isShown = isPasted || systems.length > 0;
  return (
    <div role="status" class={isShown ? "notice" : undefined}>
      {isPasted && mark !== undefined && (
        <p>
          A whole API key was pasted. It was removed and not sent; its mark is{" "}
          <KeyMark mark={mark} />.{" "}
          {noneHasIt && (
            <>
              No system has a key with this mark.{" "}
              <Link to={auditPath({ keyMark: mark })}>Look for it in the Audit Log</Link>
            </>
          )}
        </p>
      )}
      {systems.length > 0 && mark !== undefined && (
        <p>
          {!isPasted && (
            <>
              Key with the mark <KeyMark mark={mark} />:{" "}
            </>
          )}
          {systems.map(({ id, name }, at) => (
            <span key={id}>
              {at > 0 && ", "}
              <Link to={systemPath(id)}>
                <Name>{name}</Name>
              </Link>
            </span>
          ))}
        </p>
      )}
    </div>
  );
}
