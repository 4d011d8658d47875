import type { AuditEntryPartsFragment } from "@keymark/client/documents";
import { auditSentence } from "../text/audit";
import { KeyMark } from "./key-mark";
import { Name } from "./name";

export function AuditSentence({ entry }: { entry: AuditEntryPartsFragment }) {
  return (
    <>
      {auditSentence(entry).map((piece) => {
        if (typeof piece === "string") return piece;
        if ("mark" in piece) return <KeyMark key={piece.mark} mark={piece.mark} />;
        return <Name key={piece.name}>{piece.name}</Name>;
      })}
    </>
  );
}
