// A sound for critical alarms, if somebody wants one. Made here: there is no file to load.

const KEY = "loushan.sound";

let context = null;

/** Whether critical alarms sound. */
export function soundIsOn() {
  return localStorage.getItem(KEY) === "on";
}

/** Switches it. A browser lets a page sound only after its user has done something: this is it. */
export function switchSound(on) {
  localStorage.setItem(KEY, on ? "on" : "off");
  if (on) sound();
}

/** Two short tones. Says whether the browser let them be heard. */
export async function sound() {
  context ??= new AudioContext();
  // A browser that does not let it be heard may leave this open for ever.
  await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, 500))]);
  if (context.state !== "running") return false;
  for (const [at, pitch] of [
    [0, 880],
    [0.22, 1175],
  ]) {
    const tone = new OscillatorNode(context, { type: "triangle", frequency: pitch });
    const volume = new GainNode(context, { gain: 0 });
    const begin = context.currentTime + at;
    volume.gain.linearRampToValueAtTime(0.3, begin + 0.02);
    volume.gain.linearRampToValueAtTime(0, begin + 0.18);
    tone.connect(volume).connect(context.destination);
    tone.start(begin);
    tone.stop(begin + 0.2);
  }
  return true;
}
