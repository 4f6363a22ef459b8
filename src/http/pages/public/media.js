// This side's camera, microphone and screen. Whatever is missing, the call goes on without it.

const CHOICE_KEY = "devices";

/** AppRTC's `mandatory`/`optional` constraints as today's browsers take them; anything unknown is left out. */
export function modernConstraints(old) {
  if (typeof old !== "object" || old === null) return old ?? true;
  const modern = {};
  const read = (pairs, weight) => {
    for (const [key, value] of Object.entries(pairs ?? {})) {
      const [, bound, rest] = /^(min|max)(Width|Height|FrameRate|AspectRatio)$/.exec(key) ?? [];
      const number = Number(value);
      if (bound && Number.isFinite(number)) {
        const name = rest[0].toLowerCase() + rest.slice(1);
        modern[name] = { ...modern[name], [weight === "ideal" ? "ideal" : bound]: number };
      } else if (key === "facingMode" || key === "deviceId") {
        modern[key] = { [weight]: value };
      }
    }
  };
  for (const pairs of old.optional ?? []) read(pairs, "ideal");
  read(old.mandatory, "exact");
  return modern;
}

/** A word for why a device did not come, a key of the texts. */
function reason(error) {
  if (error.name === "NotAllowedError" || error.name === "SecurityError") return "media_denied";
  if (error.name === "NotReadableError" || error.name === "AbortError") return "media_busy";
  return "media_missing";
}

function keptChoice() {
  try {
    return JSON.parse(localStorage.getItem(CHOICE_KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

export class Media {
  /** `changed` is called whenever a track came, went or was muted. */
  constructor(changed) {
    this.changed = changed;
    this.stream = new MediaStream();
    this.screen = undefined;
    this.micOn = true;
    this.cameraOn = true;
    this.choice = keptChoice();
  }

  get audioTrack() { return this.stream.getAudioTracks()[0]; }
  get cameraTrack() { return this.stream.getVideoTracks()[0]; }
  /** What is sent as video: the screen while it is shared. */
  get videoTrack() { return this.screen ?? this.cameraTrack; }

  /** Opens what there is. Returns the key of a text that says what is missing, if anything is. */
  async open({ audio = true, video = true }) {
    if (!navigator.mediaDevices?.getUserMedia) return "insecure";
    const wants = { audio: this.#chosen(audio, this.choice.mic), video: this.#chosen(video, this.choice.camera) };
    if (!wants.audio && !wants.video) return undefined;
    const failure = await this.#add(wants).then(() => undefined, reason);
    if (!failure || !wants.audio || !wants.video) return failure;
    // One of the two is missing or refused: each is tried alone.
    const [heard, seen] = [await this.#tryAdd({ audio: wants.audio }), await this.#tryAdd({ video: wants.video })];
    if (heard) return seen ? undefined : "no_camera";
    return seen ? "no_mic" : failure;
  }

  #chosen(constraints, deviceId) {
    const modern = modernConstraints(constraints);
    if (!modern || !deviceId) return modern;
    return { ...(modern === true ? {} : modern), deviceId: { ideal: deviceId } };
  }

  async #tryAdd(wants) {
    return this.#add(wants).then(() => true, () => false);
  }

  async #add(wants) {
    const found = await navigator.mediaDevices.getUserMedia(wants);
    for (const track of found.getTracks()) this.#take(track);
    this.changed();
  }

  #take(track) {
    for (const old of this.stream.getTracks().filter((kept) => kept.kind === track.kind)) {
      this.stream.removeTrack(old);
      old.stop();
    }
    track.enabled = track.kind === "audio" ? this.micOn : this.cameraOn;
    this.stream.addTrack(track);
    track.addEventListener("ended", () => {
      this.stream.removeTrack(track);
      this.changed();
    });
  }

  setMic(on) {
    this.micOn = on;
    for (const track of this.stream.getAudioTracks()) track.enabled = on;
    this.changed();
  }

  setCamera(on) {
    this.cameraOn = on;
    for (const track of this.stream.getVideoTracks()) track.enabled = on;
    this.changed();
  }

  /** The devices there are, by kind; their names are empty until one was allowed. */
  async devices() {
    const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    const kind = (wanted) => all.filter((device) => device.kind === wanted && device.deviceId !== "default");
    return { camera: kind("videoinput"), mic: kind("audioinput"), speaker: kind("audiooutput") };
  }

  /** Uses another device from now on; throws the browser's error when it cannot. */
  async choose(kind, deviceId) {
    this.choice[kind] = deviceId;
    try {
      localStorage.setItem(CHOICE_KEY, JSON.stringify(this.choice));
    } catch {
      // The choice then lasts as long as the page.
    }
    if (kind === "speaker") return;
    const device = deviceId ? { deviceId: { exact: deviceId } } : true;
    await this.#add(kind === "camera" ? { video: device } : { audio: device });
  }

  /** Shares the screen, or ends it; `ended` is called when the browser's own bar ends it. */
  async shareScreen(on, ended) {
    if (on) {
      const shared = await navigator.mediaDevices.getDisplayMedia({ video: true });
      const [track] = shared.getVideoTracks();
      this.screen = track;
      track.addEventListener("ended", () => {
        if (this.screen !== track) return;
        this.screen = undefined;
        this.changed();
        ended();
      });
    } else {
      this.screen?.stop();
      this.screen = undefined;
    }
    this.changed();
  }

  /** Whether this browser can share a screen. */
  get sharesScreens() { return typeof navigator.mediaDevices?.getDisplayMedia === "function"; }

  /** Lets go of every device. */
  close() {
    for (const track of [...this.stream.getTracks(), this.screen]) track?.stop();
    for (const track of this.stream.getTracks()) this.stream.removeTrack(track);
    this.screen = undefined;
    this.changed();
  }
}
