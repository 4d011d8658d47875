import {
  DeleteSystemDocument,
  RevokeKeyDocument,
  SuspendSystemDocument,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import type { Client, CombinedError } from "@urql/core";
import { useClient } from "@urql/preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useLeaveGuard } from "../router";
import { type BulkAction, type Outcome, progressText, runBulk, WAITING } from "../text/bulk";
import { failureOf } from "../text/failures";
import { Dialog } from "./dialog";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { given, ReasonField } from "./reason-field";

interface BulkDialogProps {
  action: BulkAction;
  systems: readonly SystemPartsFragment[];
  /** Called with the ids of the systems that the action has not been carried out on. */
  onClose: (remaining: readonly string[]) => void;
}

interface Texts {
  title: string;
  effect: (count: string) => string;
  warning: string;
  done: string;
}

const TEXTS: Record<BulkAction, Texts> = {
  suspend: {
    title: "Suspend",
    effect: (systems) => `suspend ${systems}`,
    warning: "All keys of these systems will be refused until you resume them.",
    done: "Suspended",
  },
  revoke: {
    title: "Revoke API Keys",
    effect: (systems) => `revoke the keys of ${systems}`,
    warning: "The keys of these systems will no longer be usable. New ones can be generated.",
    done: "Revoked",
  },
  delete: {
    title: "Delete Systems",
    effect: (systems) => `delete ${systems} and their keys`,
    warning: "These systems and their keys will be removed. This cannot be undone.",
    done: "Deleted",
  },
};

/** Lists the systems, asks once, and then acts on one after the other, each with its own outcome. */
export function BulkDialog({ action, systems, onClose }: BulkDialogProps) {
  const client = useClient();
  const [reason, setReason] = useState("");
  const [phase, setPhase] = useState<"asking" | "running" | "finished">("asking");
  const [outcomes, setOutcomes] = useState<ReadonlyMap<string, Outcome>>(new Map());
  const [stopping, setStopping] = useState(false);
  const stopped = useRef(false);
  // Leaving the page leaves the rest. A layout effect: the cleanup of a plain one may run only after the next request.
  useLayoutEffect(
    () => () => {
      stopped.current = true;
    },
    [],
  );
  const button = useRef<HTMLButtonElement>(null);
  // The button that had the focus is gone.
  useLayoutEffect(() => {
    if (phase !== "asking") button.current?.focus();
  }, [phase]);
  const texts = TEXTS[action];
  const all = systems.map(({ id }) => outcomes.get(id) ?? WAITING);
  const finished = all.filter(({ state }) => state === "done" || state === "failed").length;

  useLeaveGuard(phase === "running" ? "Not all systems are done yet. Leave the rest?" : undefined);
  const run = async () => {
    setPhase("running");
    await runBulk({
      items: systems,
      act: async ({ id }) => messageOf(action, await request(client, action, id, given(reason))),
      isStopped: () => stopped.current,
      onOutcome: ({ id }, outcome) => setOutcomes((before) => new Map(before).set(id, outcome)),
    });
    setPhase("finished");
  };
  const stop = () => {
    stopped.current = true;
    setStopping(true);
  };
  const close = () =>
    onClose(systems.map(({ id }) => id).filter((id) => outcomes.get(id)?.state !== "done"));

  return (
    <Dialog title={texts.title} onEscape={phase === "running" ? undefined : close}>
      {phase === "asking" && <p>{texts.warning}</p>}
      {/* Focusable, so that a long list can be scrolled with the keyboard. */}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: as above */}
      <ul class="bulk" aria-label="Systems" tabIndex={0}>
        {systems.map((system) => (
          <li key={system.id}>
            <Name>{system.name}</Name> {system.keyMark && <KeyMark mark={system.keyMark} />}{" "}
            {phase !== "asking" && (
              <OutcomeText outcome={outcomes.get(system.id) ?? WAITING} done={texts.done} />
            )}
          </li>
        ))}
      </ul>
      {phase === "asking" ? (
        <ReasonField value={reason} onInput={setReason} />
      ) : (
        <progress max={systems.length} value={finished} aria-label="Progress" />
      )}
      <p role="status" class="quiet">
        {phase !== "asking" && progressText(all)}
        {stopping && phase === "running" && ". Stopping…"}
      </p>
      <div class="actions">
        {phase === "asking" && (
          <>
            <p class="effect">
              Confirm:{" "}
              {texts.effect(systems.length === 1 ? "1 system" : `${systems.length} systems`)}
            </p>
            <button type="button" onClick={close}>
              Cancel
            </button>
            <button type="button" class="danger" onClick={run}>
              Confirm
            </button>
          </>
        )}
        {phase === "running" && (
          <button ref={button} type="button" onClick={stop} aria-disabled={stopping}>
            Stop
          </button>
        )}
        {phase === "finished" && (
          <button ref={button} type="button" class="primary" onClick={close}>
            Close
          </button>
        )}
      </div>
    </Dialog>
  );
}

function OutcomeText({ outcome, done }: { outcome: Outcome; done: string }) {
  switch (outcome.state) {
    case "waiting":
      return <span class="quiet">Waiting</span>;
    case "running":
      return <span class="quiet">Running…</span>;
    case "done":
      return <span class="outcome">{done}</span>;
    case "stopped":
      return <span class="quiet">Not attempted</span>;
    case "failed":
      return <span class="error">Failed: {outcome.message}</span>;
  }
}

async function request(
  client: Client,
  action: BulkAction,
  id: string,
  reason: { reason?: string },
): Promise<CombinedError | undefined> {
  switch (action) {
    case "suspend":
      return (await client.mutation(SuspendSystemDocument, { id, ...reason })).error;
    case "revoke":
      return (await client.mutation(RevokeKeyDocument, { systemId: id, ...reason })).error;
    case "delete":
      return (await client.mutation(DeleteSystemDocument, { id, ...reason })).error;
  }
}

/** Returns the message of a failure. It is none if another operator has done the same already. */
function messageOf(action: BulkAction, error: CombinedError | undefined): string | undefined {
  if (error === undefined) return undefined;
  const { code, message } = failureOf(error);
  if (action === "revoke" && code === "KEY_NOT_GENERATED") return undefined;
  if (action === "delete" && code === "NOT_FOUND") return undefined;
  return message;
}
