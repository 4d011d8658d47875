import { DAYS, REVIEWS, type Review, type ReviewKind } from "../text/review";
import { SelectField } from "./select-field";
import type { SeenNames } from "./use-seen-names";

interface ReviewFiltersProps {
  review: Review;
  /** The operators who may be chosen. */
  operators: SeenNames;
  onChoose: (review: Review) => void;
}

/** Chooses what to look for. */
export function ReviewFilters({ review, operators, onChoose }: ReviewFiltersProps) {
  const { kind, days, operatorId } = review;
  const choices = DAYS[kind];
  return (
    <search class="filters review-filters" aria-label="What to review">
      <SelectField
        label="Find"
        value={kind}
        options={REVIEWS}
        onChoose={(chosen) =>
          onChoose({
            ...review,
            kind: chosen as ReviewKind,
            days: DAYS[chosen as ReviewKind]?.[0] ?? 0,
          })
        }
      />
      {choices !== undefined && (
        <SelectField
          label="Days"
          value={String(days)}
          options={Array.from(new Set([...choices, days]))
            .sort((one, other) => one - other)
            .map((count) => [String(count), count === 1 ? "1 day" : `${count} days`] as const)}
          onChoose={(chosen) => onChoose({ ...review, days: Number(chosen) })}
        />
      )}
      {kind === "generated-by" && (
        <SelectField
          label="Operator"
          value={operatorId ?? ""}
          options={[
            ["", operators.size === 0 ? "None found" : "Choose an operator"],
            ...Array.from(operators),
            ...(operatorId === undefined || operators.has(operatorId)
              ? []
              : [[operatorId, operatorId] as const]),
          ]}
          onChoose={(chosen) => onChoose({ ...review, operatorId: chosen || undefined })}
        />
      )}
    </search>
  );
}
