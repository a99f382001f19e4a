// What clients expect of a broker, by npm's mqtt.
//
// Prints the names of the scenarios that passed as one JSON array; the first that fails ends the
// process with a message. See tests/python/scenarios.py, which does the same by paho.
//
// usage: node scenarios.js --url URL --version 4|5 --name NAME [--ca FILE] --topic TOPIC --batch FILE

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'

// The packages are in a folder of their own, which LOUSHAN_TEST_NODE names.
const mqtt = createRequire(`${process.env.LOUSHAN_TEST_NODE}/`)('mqtt')

const string = { type: 'string' }
const { values: args } = parseArgs({
  options: { url: string, version: string, name: string, ca: string, topic: string, batch: string },
})
const version = Number(args.version)
const PATIENCE_MS = 20_000

/** Rejects if it takes too long. */
function within (what, promise) {
  let timer
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited for ${what}`)), PATIENCE_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** A connection; what it receives waits to be asked for. */
class Peer {
  constructor (id, { kept = false, will } = {}) {
    this.messages = []
    this.waiting = null
    this.client = mqtt.connect(args.url, {
      clientId: `${args.name}-${id}`,
      protocolVersion: version,
      clean: !kept,
      properties: version === 5 && kept ? { sessionExpiryInterval: 600 } : undefined,
      reconnectPeriod: 0,
      resubscribe: false,
      ca: args.ca && readFileSync(args.ca),
      will,
    })
    // Before anything can come.
    this.client.on('message', (topic, payload, packet) => {
      this.messages.push({ topic, text: payload.toString(), qos: packet.qos, retain: packet.retain })
      this.waiting?.()
    })
    this.connected = within('CONNACK', new Promise((resolve, reject) => {
      this.client.once('connect', resolve)
      this.client.once('error', reject)
    }))
  }

  static async connect (id, options) {
    const peer = new Peer(id, options)
    peer.present = (await peer.connected).sessionPresent
    return peer
  }

  async subscribe (filter, qos) {
    const granted = await within('SUBACK', this.client.subscribeAsync(filter, { qos }))
    assert.deepEqual(granted.map((one) => one.qos), [qos])
  }

  publish (topic, payload, options) {
    return within('the last acknowledgement', this.client.publishAsync(topic, payload, options))
  }

  async message () {
    while (this.messages.length === 0) {
      await within('a message', new Promise((resolve) => { this.waiting = resolve }))
    }
    return this.messages.shift()
  }

  leave () {
    return within('the end', this.client.endAsync())
  }

  /** The connection's end without DISCONNECT. */
  vanish () {
    this.client.stream.destroy()
    this.client.end(true)
  }
}

const topic = (rest) => `clients/${args.name}/${rest}`

const scenarios = {
  async 'every quality of service both ways' () {
    const subscriber = await Peer.connect('s')
    await subscriber.subscribe(topic('qos/+'), 2)
    const publisher = await Peer.connect('p')
    for (const qos of [0, 1, 2]) {
      await publisher.publish(topic(`qos/${qos}`), `街灯 ${qos}`, { qos })
      const message = await subscriber.message()
      assert.deepEqual(message, { topic: topic(`qos/${qos}`), text: `街灯 ${qos}`, qos, retain: false })
    }
    await Promise.all([subscriber.leave(), publisher.leave()])
  },

  async 'retained messages' () {
    const publisher = await Peer.connect('p')
    await publisher.publish(topic('retained'), 'kept', { qos: 1, retain: true })
    const early = await Peer.connect('s')
    await early.subscribe(topic('retained'), 1)
    const message = await early.message()
    assert.deepEqual([message.text, message.retain], ['kept', true])
    await publisher.publish(topic('retained'), '', { qos: 1, retain: true })
    assert.equal((await early.message()).text, '')
    const late = await Peer.connect('l')
    await late.subscribe(topic('retained'), 1)
    await publisher.publish(topic('retained'), 'live', { qos: 1 })
    assert.equal((await late.message()).text, 'live')
    await Promise.all([publisher.leave(), early.leave(), late.leave()])
  },

  async 'a will' () {
    const watcher = await Peer.connect('w')
    await watcher.subscribe(topic('will/+'), 1)
    const will = (name) => ({ topic: topic(`will/${name}`), payload: name, qos: 1, retain: false })
    const leaves = await Peer.connect('c', { will: will('leaves') })
    await leaves.leave()
    const lost = await Peer.connect('c', { will: will('lost') })
    lost.vanish()
    assert.equal((await watcher.message()).text, 'lost')
    await watcher.leave()
  },

  async 'a session resumed with what came meanwhile' () {
    const first = await Peer.connect('k', { kept: true })
    assert.equal(first.present, false)
    await first.subscribe(topic('kept'), 2)
    await first.leave()
    const publisher = await Peer.connect('p')
    for (const qos of [1, 2]) {
      await publisher.publish(topic('kept'), String(qos), { qos })
    }
    const second = await Peer.connect('k', { kept: true })
    assert.equal(second.present, true)
    for (const qos of [1, 2]) {
      const message = await second.message()
      assert.deepEqual([message.text, message.qos], [String(qos), qos])
    }
    await Promise.all([second.leave(), publisher.leave()])
    await (await Peer.connect('k')).leave()
  },

  async 'a batch of readings' () {
    const station = await Peer.connect('station')
    await station.publish(args.topic, readFileSync(args.batch), { qos: 1 })
    await station.leave()
  },
}

const passed = []
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    await scenario()
  } catch (error) {
    console.error(`${name}: ${error.stack}`)
    process.exit(1)
  }
  passed.push(name)
}
console.log(JSON.stringify(passed))
process.exit(0)
