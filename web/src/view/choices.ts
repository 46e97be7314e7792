/** The selects above the graph: value, group, process, thread. They hold a `Choice` and show what there is to choose. */
import type { Profile } from "../data/format.ts";
import { makeDirectory, processLabel, threadLabel, type Choice, type Directory, type Grouping } from "../model/build.ts";
import { element, fillSelect } from "./dom.ts";
import { formatCount, formatShare, printable } from "./text.ts";

export class Choices {
  directory!: Directory;
  choice: Choice = { process: null, thread: null, grouping: "none", type: 0 };
  readonly root = element("div", { class: "toolbar filters", role: "group", "aria-label": "What is shown" });
  private profile!: Profile;
  private readonly processSelect = element("select", { id: "everflame-process" });
  private readonly threadSelect = element("select", { id: "everflame-thread" });
  private readonly groupSelect = element("select", { id: "everflame-group" });
  private readonly typeSelect = element("select", { id: "everflame-type" });

  /** `owners`: whether a process and a thread can be chosen here. */
  constructor(private readonly owners: boolean, private readonly onChange: (change: Partial<Choice>) => void) {
    const index = (select: HTMLSelectElement) => (select.value === "" ? null : Number(select.value));
    this.typeSelect.addEventListener("change", () => this.choose({ type: Number(this.typeSelect.value) }));
    this.groupSelect.addEventListener("change", () => this.choose({ grouping: this.groupSelect.value as Grouping }));
    this.processSelect.addEventListener("change", () => this.choose({ process: index(this.processSelect), thread: null }));
    this.threadSelect.addEventListener("change", () => this.choose({ thread: index(this.threadSelect) }));
  }

  /** Takes another profile; the grouping stays, what points into the profile does not. */
  show(profile: Profile): void {
    this.profile = profile;
    this.directory = makeDirectory(profile);
    this.choice = { process: null, thread: null, grouping: this.choice.grouping, type: profile.defaultType };
    const field = (label: string, select: HTMLSelectElement) => element("div", { class: "field" }, element("label", { for: select.id }, label), select);
    const hasOwners = profile.owners.count > 0;
    this.root.replaceChildren(
      ...[
        profile.sampleTypes.length > 1 && !profile.comparison ? field("Value", this.typeSelect) : null,
        hasOwners ? field("Group", this.groupSelect) : null,
        hasOwners && this.owners ? field("Process", this.processSelect) : null,
        hasOwners && this.owners ? field("Thread", this.threadSelect) : null,
      ].filter((each) => each !== null),
    );
    fillSelect(this.typeSelect, profile.sampleTypes.map((type, index) => ({ value: String(index), label: typeLabel(type) })), String(this.choice.type));
    const groupings: [Grouping, string][] = [["none", "None"], ["process", "Process"], ["thread", "Process, thread"]];
    fillSelect(this.groupSelect, groupings.map(([value, label]) => ({ value, label })), this.choice.grouping);
    this.fillProcesses();
    this.fillThreads();
  }

  /** Changes the grouping, without telling anybody. */
  setGrouping(grouping: Grouping): void {
    this.choice.grouping = grouping;
    this.groupSelect.value = grouping;
  }

  private choose(change: Partial<Choice>): void {
    Object.assign(this.choice, change);
    if ("type" in change) this.fillProcesses();
    if ("process" in change || "type" in change) this.fillThreads();
    this.onChange(change);
  }

  private fillProcesses(): void {
    const { processes } = this.directory;
    const whole = this.profile.rows.values[this.choice.type].reduce((sum, value) => sum + value, 0);
    const options = processes.map((process, index) => ({
      value: String(index),
      label: `${printable(processLabel(process))} · ${formatShare(process.totals[this.choice.type], whole)}`,
    }));
    const all = { value: "", label: `All (${formatCount(processes.length)})` };
    fillSelect(this.processSelect, [all, ...options], this.choice.process === null ? "" : String(this.choice.process));
  }

  private fillThreads(): void {
    const process = this.choice.process === null ? null : this.directory.processes[this.choice.process];
    const totals = this.directory.ownerTotals[this.choice.type];
    const options = (process?.threads ?? []).map((owner) => ({
      value: String(owner),
      label: `${printable(threadLabel(this.profile, owner))} · ${formatShare(totals[owner], process?.totals[this.choice.type] ?? 0)}`,
    }));
    const all = { value: "", label: process ? `All (${formatCount(options.length)})` : "All" };
    fillSelect(this.threadSelect, [all, ...options], this.choice.thread === null ? "" : String(this.choice.thread));
    this.threadSelect.disabled = process === null;
  }
}

function typeLabel(type: { name: string; unit: string }): string {
  if (type.name === "cpu" && type.unit === "nanoseconds") return "CPU time";
  if (type.unit === "count") return printable(type.name.charAt(0).toUpperCase() + type.name.slice(1));
  return printable(`${type.name} (${type.unit})`);
}
