import {
  type ReviewRowFragment,
  type SystemFilter,
  type SystemPartsFragment,
  SystemsTotalDocument,
} from "@keymark/client/documents";
import { useQuery } from "@urql/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { BulkDialog } from "../components/bulk-dialog";
import { LoadError } from "../components/load-error";
import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import { ReviewFilters } from "../components/review-filters";
import { ReviewTable } from "../components/review-table";
import { ScrollSentinel } from "../components/scroll-sentinel";
import { Skeleton } from "../components/skeleton";
import { Total } from "../components/total";
import { useGenerators } from "../components/use-generators";
import { useReviewRows } from "../components/use-review-rows";
import { navigate, useLocation } from "../router";
import { reviewPath } from "../routes";
import { useMay } from "../session/viewer-context";
import type { BulkAction } from "../text/bulk";
import { isBackward, parseReview, type Review, reviewOrder } from "../text/review";

/** Finds systems that nobody needs any more, and suspends, revokes or deletes them together. */
export function ReviewPage() {
  const mayView = useMay("view");
  return (
    <>
      <PageHeading title="Review" trail={[]} />
      {mayView ? <Reviews /> : <MissingPermission action="view" />}
    </>
  );
}

function Reviews() {
  const { search } = useLocation();
  const review = parseReview(search);
  const [operators, collect] = useGenerators(review.kind === "generated-by");
  return (
    <>
      <p class="advice">
        Suspend what you are not sure about: its keys are refused, and it can be resumed. Delete
        what nobody has missed since.
      </p>
      <ReviewFilters
        review={review}
        operators={operators}
        onChoose={(chosen) => navigate(reviewPath(chosen), { replace: true })}
      />
      <ReviewList key={reviewPath(review)} review={review} onLoaded={collect} />
    </>
  );
}

interface ReviewListProps {
  review: Review;
  onLoaded: (systems: readonly ReviewRowFragment[]) => void;
}

function ReviewList({ review, onLoaded }: ReviewListProps) {
  const { rows, hasMore, error, filter, loadMore } = useReviewRows(review);
  const total = useTotal(isBackward(review) ? undefined : filter);
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [acting, setActing] = useState<{
    action: BulkAction;
    systems: readonly SystemPartsFragment[];
  }>();
  const latest = useRef(onLoaded);
  latest.current = onLoaded;
  useEffect(() => latest.current(rows.map(({ system }) => system)), [rows]);
  const chosen = rows
    .filter(({ system, isDeleted }) => selected.has(system.id) && !isDeleted)
    .map(({ system }) => system);

  if (review.kind === "generated-by" && review.operatorId === undefined) {
    return <p class="empty">Choose the operator whose keys you want to review.</p>;
  }
  if (hasMore === undefined) {
    return error === undefined ? (
      <Skeleton lines={6} />
    ) : (
      <LoadError error={error} onRetry={loadMore} />
    );
  }
  return (
    <>
      <BulkActions
        count={chosen.length}
        total={isBackward(review) && !hasMore ? rows.length : total}
        onAct={(action) => setActing({ action, systems: chosen })}
      />
      <ReviewTable
        rows={rows}
        selected={selected}
        onSelect={setSelected}
        order={reviewOrder(review)}
        onSort={
          isBackward(review)
            ? undefined
            : (order) => navigate(reviewPath({ ...review, order }), { replace: true })
        }
      />
      {rows.length === 0 && !hasMore && <p class="empty">No systems were found.</p>}
      {hasMore && error === undefined && <ScrollSentinel key={rows.length} onReached={loadMore} />}
      {error !== undefined && <LoadError error={error} onRetry={loadMore} />}
      {acting && (
        <BulkDialog
          action={acting.action}
          systems={acting.systems}
          onClose={(remaining) => {
            setActing(undefined);
            setSelected(new Set(remaining));
          }}
        />
      )}
    </>
  );
}

function useTotal(filter: SystemFilter | undefined): number | undefined {
  const [{ data }] = useQuery({
    query: SystemsTotalDocument,
    variables: filter === undefined ? {} : { filter },
    requestPolicy: "network-only",
    pause: filter === undefined,
  });
  return filter && data?.systems.totalCount;
}

interface BulkActionsProps {
  /** How many systems are selected. */
  count: number;
  /** How many systems were found, loaded or not; undefined if it is not known. */
  total: number | undefined;
  onAct: (action: BulkAction) => void;
}

const BUTTONS = [
  ["suspend", "Suspend", "edit"],
  ["revoke", "Revoke API Keys", "edit"],
  ["delete", "Delete Systems", "delete"],
] as const;

function BulkActions({ count, total, onAct }: BulkActionsProps) {
  const mayEdit = useMay("edit");
  const mayDelete = useMay("delete");
  const shown = BUTTONS.filter(([, , needed]) => (needed === "edit" ? mayEdit : mayDelete));
  return (
    <div class="bulk-actions">
      {shown.map(([action, label]) => (
        <button
          key={action}
          type="button"
          class="danger"
          disabled={count === 0}
          aria-describedby="selected"
          onClick={() => onAct(action)}
        >
          {label}
        </button>
      ))}
      {shown.length > 0 && (
        <p id="selected" class="quiet" role="status">
          {count === 0 ? "Select systems first." : `${count} selected`}
        </p>
      )}
      <Total count={total} nouns={["system", "systems"]} filtered={false} />
    </div>
  );
}
