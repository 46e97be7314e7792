/**
 * What the page has fetched: the profile of each side, kept until another one is asked for. Nothing piles up while a page is open for a
 * day: one profile a side, and what was made of both.
 */
import { decode, type Profile } from "../data/format.ts";
import { compare, type Measure } from "../model/compare.ts";
import { ApiError, type Api, type Slice } from "./api.ts";
import { conditionText } from "./state.ts";

interface Kept {
  key: string;
  profile: Profile;
}

function keyOf({ range, where }: Slice): string {
  return [range.from, range.to, ...where.map(conditionText)].join("\n");
}

export class Profiles {
  private current: Kept | null = null;
  private baseline: Kept | null = null;
  private compared: { of: [Profile, Profile, Measure]; profile: Profile } | null = null;

  constructor(private readonly api: Api) {}

  /** The profile of one side, or of both compared; the same object as before if nothing has changed. Throws `ApiError`. */
  async get(current: Slice, baseline: Slice | null, measure: Measure, signal: AbortSignal): Promise<Profile> {
    [this.current, this.baseline] = await Promise.all([this.fetch(current, signal), baseline ? this.fetch(baseline, signal) : null]);
    const [now, before] = [this.current.profile, this.baseline?.profile];
    if (!baseline || !before) {
      this.compared = null;
      return now;
    }
    const of: [Profile, Profile, Measure] = [now, before, measure];
    if (this.compared?.of.every((each, index) => each === of[index])) return this.compared.profile;
    const duration = ({ range }: Slice) => (range.to - range.from) * 1e6;
    const profile = compare({ profile: now, duration: duration(current) }, { profile: before, duration: duration(baseline) }, measure);
    this.compared = { of, profile };
    return profile;
  }

  private async fetch(slice: Slice, signal: AbortSignal): Promise<Kept> {
    const key = keyOf(slice);
    const known = [this.current, this.baseline].find((kept) => kept?.key === key);
    if (known) return known;
    const bytes = await this.api.profile(slice, signal);
    try {
      return { key, profile: decode(bytes) };
    } catch (error) {
      throw new ApiError("refused", `The server's profile cannot be shown: ${error instanceof Error ? error.message : String(error)}.`);
    }
  }
}
