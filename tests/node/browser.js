// A browser that does what it is told, for tests/support/browser.rs.
//
// Reads one JSON object a line from standard input, `{"do": NAME, …}`, and answers each with one line:
// `{"ok": VALUE}` or `{"error": TEXT}`. It ends when its input does. See `commands` for what can be told.
// Chromium is driven by puppeteer-core; nothing is downloaded.
//
// usage: node browser.js   (LOUSHAN_TEST_NODE names the folder of npm's packages)

import { accessSync, constants, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'

const require = createRequire(`${process.env.LOUSHAN_TEST_NODE}/`)
const puppeteer = require('puppeteer-core')

const POLL_MS = 50

/** The browser's path: Debian calls it chromium. */
function chromium () {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, 'chromium')
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // It is in another folder.
    }
  }
  throw new Error('there is no chromium in PATH: tests/run installs it')
}

// A sandbox of its own it can only have as an ordinary user; /dev/shm is small in containers.
const args = ['--disable-dev-shm-usage', '--autoplay-policy=no-user-gesture-required']
if (process.getuid() === 0) args.push('--no-sandbox')
const browser = await puppeteer.launch({ executablePath: chromium(), args })

let context = null
let page = null
/** What the browser has to complain of since it was last asked. */
let complaints = []

const commands = {
  /** A new page, without what the one before knew. */
  async open ({ language = 'en-GB', zone = 'Europe/Berlin', width = 1280, height = 900, dark = false }) {
    await context?.close()
    context = await browser.createBrowserContext()
    page = await context.newPage()
    complaints = []
    page.on('console', (message) => {
      if (['error', 'warn'].includes(message.type())) complaints.push(`${message.text()} ${message.location().url ?? ''}`)
    })
    page.on('pageerror', (error) => complaints.push(`uncaught: ${error.stack ?? error.message}`))
    await page.setViewport({ width, height })
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }])
    await page.emulateTimezone(zone)
    await page.evaluateOnNewDocument((tag) => {
      Object.defineProperty(navigator, 'languages', { get: () => [tag] })
    }, language)
  },
  async goto ({ url }) {
    await page.goto(url, { waitUntil: 'load' })
  },
  /** The value of an expression in the page; promises are waited for. */
  evaluate: ({ script }) => page.evaluate(script),
  /** Waits until an expression is true in the page, and gives its value. */
  async wait ({ script, what, patience_ms: patience }) {
    const until = Date.now() + patience
    let last
    for (;;) {
      try {
        const value = await page.evaluate(script)
        if (value) return value
        last = value
      } catch (error) {
        // The page may be between two documents.
        last = error.message
      }
      if (Date.now() > until) {
        const shown = await page.evaluate('document.body?.innerText').catch(() => null)
        throw new Error(`waited for ${what}: ${script} is ${last}; the page says:\n${shown}\ncomplaints: ${complaints.join('\n')}`)
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  },
  click: ({ selector }) => page.click(selector),
  async type ({ selector, text }) {
    await page.click(selector, { count: 3 })
    await page.type(selector, text)
  },
  select: ({ selector, value }) => page.select(selector, value),
  press: ({ key }) => page.keyboard.press(key),
  /** Drags the mouse over an element, between two shares of its width. */
  async drag ({ selector, from, to }) {
    const element = await page.$(selector)
    await element.scrollIntoView()
    const box = await element.boundingBox()
    const at = (share) => [box.x + box.width * share, box.y + box.height / 2]
    await page.mouse.move(...at(from))
    await page.mouse.down()
    await page.mouse.move(...at((from + to) / 2), { steps: 4 })
    await page.mouse.move(...at(to), { steps: 4 })
    await page.mouse.up()
  },
  async screenshot ({ path, whole = false }) {
    await page.screenshot({ path, fullPage: whole, type: 'webp', quality: 70 })
  },
  /** What axe finds wrong with the page as it is: rules, and where. */
  async axe () {
    await page.evaluate(readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'))
    return page.evaluate(async () => {
      const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] })
      return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)}: ${failureSummary}`))
    })
  },
  /** What the browser complained of since it was last asked. */
  complaints () {
    const told = complaints
    complaints = []
    return told
  },
  /** Seconds of a core that the browser has used so far, all its processes taken together. */
  async busy () {
    const session = await browser.target().createCDPSession()
    const { processInfo } = await session.send('SystemInfo.getProcessInfo')
    await session.detach()
    return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0)
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...told } = JSON.parse(line)
  let answer
  try {
    answer = { ok: (await commands[name](told)) ?? null }
  } catch (error) {
    answer = { error: error.message }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
await browser.close()
