import { BINS, callsText } from "../text/calls";

interface CallsChartProps {
  calls: readonly number[];
  /** The number of calls that is as high as the chart: the same for charts that are compared. */
  max: number;
}

const BAR_WIDTH = 8;
const GAP = 2;
const HEIGHT = 40;
const WIDTH = BINS * (BAR_WIDTH + GAP);

/** Bars of the calls with a key in the last minutes. */
export function CallsChart({ calls, max }: CallsChartProps) {
  const text = callsText(calls);
  return (
    <figure class="calls">
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={text}
      >
        <line class="axis" x1="0" x2={WIDTH} y1={HEIGHT} y2={HEIGHT} />
        {calls.map((count, bin) => {
          const height = max === 0 ? 0 : (count / max) * HEIGHT;
          return (
            <rect
              // biome-ignore lint/suspicious/noArrayIndexKey: the bars are their places
              key={bin}
              x={bin * (BAR_WIDTH + GAP)}
              y={HEIGHT - height}
              width={BAR_WIDTH}
              height={height}
            />
          );
        })}
      </svg>
      <figcaption class="quiet" aria-hidden="true">
        {text}
      </figcaption>
    </figure>
  );
}
