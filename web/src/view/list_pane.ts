/**
 * The list beside the graph: which listing it holds, and when it is filled. Sums take as long as all else: the owner says when there is
 * time for them.
 *
 * What a profile does not have is asked for: values of labels, and which of its binaries are executables. A listing that the profile
 * gives does not wait for that.
 */
import { element, fillSelect } from "./dom.ts";
import { labelListing, listingOf, PROFILE_LISTINGS, type LabelValues, type Source } from "./listing.ts";
import type { Palette } from "./palette.ts";
import { ListTable } from "./table.ts";

/** Who knows labels and their values. */
export interface LabelSource {
  /** Labels whose values the list can show. */
  labels: string[];
  /** Gets the values of a label; `null` if they cannot be had. `quiet`: nobody is told why not. */
  valuesOf(label: string, quiet: boolean): Promise<LabelValues | null>;
  /** A person wants to see these values of a label alone. */
  onLabelValues(label: string, values: string[]): void;
}

/** What the list asks of the view that it is part of. */
export interface ListOwner {
  palette(): Palette;
  source(): Omit<Source, "executables" | "onExecutables">;
  /** One byte for each function: 1 = found by the search. `null`: nothing is searched for. */
  matchedFunctions(): Uint8Array | null;
  /** The function that the other views are about; -1 for none. */
  focusedFunction(): number;
  /** A person has chosen another listing. */
  onList(list: string): void;
}

/** The listing whose entries are functions. */
const FUNCTIONS = "function";
/** The label of a process's own executable. */
const EXECUTABLE = "executable";

export class ListPane {
  readonly root: HTMLElement;
  private readonly table = new ListTable();
  private readonly select = element("select", { id: "everflame-list", "aria-label": "List by" });
  private isDue = false;
  private areMatchesDue = false;
  private asked = 0;
  /** Paths by the file's name, as they were last known: what can be clicked does not go away while it is asked for again. */
  private executables: ReadonlyMap<string, string[]> = new Map();

  constructor(private list: string, private readonly values: LabelSource, private readonly owner: ListOwner) {
    this.root = this.table.root;
    this.table.bar.append(this.select);
    this.select.addEventListener("change", () => {
      this.list = this.select.value;
      this.table.setListing(null);
      this.areMatchesDue = true;
      this.isDue = true;
      this.owner.onList(this.list);
    });
  }

  /** Offers what there is to choose. */
  offer(): void {
    const labels = this.values.labels.map((value) => ({ value, label: `By ${value}` }));
    fillSelect(this.select, [...PROFILE_LISTINGS.map(([value, label]) => ({ value, label })), ...labels], this.list);
  }

  /** Chooses a listing, without telling the owner. */
  setList(list: string): void {
    this.list = list;
    this.select.value = list;
  }

  /** Whether what is listed, or what can be clicked there, is somebody's answer. */
  get needsAnswers(): boolean {
    return this.values.labels.includes(this.list) || this.offersExecutables;
  }

  /** Marks the function that the other views are about. */
  setFocused(functionIndex: number): void {
    if (this.list === FUNCTIONS) this.table.setFocused(functionIndex);
  }

  /** What is listed has changed: it is made at the next `refresh`. */
  changed(): void {
    this.isDue = true;
  }

  /** Another search: its matches are listed at the next `refresh`. */
  matchesChanged(): void {
    this.areMatchesDue = true;
  }

  /** Does what is due, if anybody sees it. */
  refresh(): void {
    if (this.root.hidden) return;
    if (this.areMatchesDue) {
      this.areMatchesDue = false;
      this.table.setMatches(this.matches());
    }
    if (!this.isDue) return;
    this.isDue = false;
    void this.fill();
  }

  /** Answers that are still to come are for nobody. */
  destroy(): void {
    this.asked++;
  }

  private matches(): Uint8Array | null {
    return this.list === FUNCTIONS ? this.owner.matchedFunctions() : null;
  }

  private async fill(): Promise<void> {
    const { list } = this;
    const asked = ++this.asked;
    if (this.values.labels.includes(list)) {
      const values = await this.values.valuesOf(list, false);
      // Another listing may have been chosen meanwhile.
      if (asked !== this.asked || !values) return;
      this.table.setFocused(-1);
      this.table.setListing(labelListing(values, this.owner.palette(), (value) => this.values.onLabelValues(list, [value])));
      this.table.setMatches(this.matches());
      return;
    }
    this.show(list);
    if (!this.offersExecutables) return;
    const values = await this.values.valuesOf(EXECUTABLE, true);
    if (asked !== this.asked || !values) return;
    const found = pathsByName(values);
    // A list that is made again begins at its first row.
    if (JSON.stringify([...found]) === JSON.stringify([...this.executables])) return;
    this.executables = found;
    this.show(list);
  }

  /** A listing that the profile gives. */
  private show(list: string): void {
    const executables = this.offersExecutables ? this.executables : new Map<string, string[]>();
    const onExecutables = (paths: string[]) => this.values.onLabelValues(EXECUTABLE, paths);
    this.table.setListing(listingOf(list, { ...this.owner.source(), executables, onExecutables }));
    this.table.setFocused(list === FUNCTIONS ? this.owner.focusedFunction() : -1);
    this.table.setMatches(this.matches());
  }

  /** Of binaries those that are executables can be filtered by: they are values of a label. */
  private get offersExecutables(): boolean {
    return this.list === "mapping" && this.values.labels.includes(EXECUTABLE);
  }
}

/** In an order that does not depend on who is busy. */
function pathsByName({ current, baseline }: LabelValues): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const path of [...new Set([...current.keys(), ...(baseline?.keys() ?? [])])].sort()) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (name !== "") found.set(name, [...(found.get(name) ?? []), path]);
  }
  return found;
}
