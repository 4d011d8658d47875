import type { AuditEntryPartsFragment } from "../gql/graphql";
import { auditSentence } from "../text/audit";
import { Name } from "./name";

export function AuditSentence({ entry }: { entry: AuditEntryPartsFragment }) {
  return (
    <>
      {auditSentence(entry).map((piece) =>
        typeof piece === "string" ? piece : <Name key={piece.name}>{piece.name}</Name>,
      )}
    </>
  );
}
