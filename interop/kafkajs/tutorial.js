// The classic beginner's tutorial: users are created, one is updated, one is deleted with a tombstone, and a consumer
// reads the topic back from the beginning and keeps the latest value of each key. Prints what it kept as one line of JSON.
//
//   node tutorial.js HOST:PORT CODEC      CODEC: none, gzip, snappy, lz4, zstd
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')

const [broker, codecName] = process.argv.slice(2)

// kafkajs brings gzip; the others are plugged in, as its documentation says.
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])
CompressionCodecs[CompressionTypes.Snappy] = () => {
  const snappy = require('snappyjs')
  return {
    compress: async (encoder) => Buffer.from(snappy.compress(encoder.buffer)),
    decompress: async (buffer) => {
      if (!buffer.subarray(0, 8).equals(XERIAL)) return Buffer.from(snappy.uncompress(buffer))
      const parts = []
      for (let at = 16; at < buffer.length; ) {
        const size = buffer.readInt32BE(at)
        parts.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + size))))
        at += 4 + size
      }
      return Buffer.concat(parts)
    },
  }
}
CompressionCodecs[CompressionTypes.LZ4] = () => {
  const lz4 = require('lz4js')
  const xxh32 = require('lz4js/xxh32.js')
  return {
    compress: async (encoder) => {
      const frame = Buffer.from(lz4.compress(encoder.buffer))
      frame[4] |= 0x20 // lz4js writes one block and calls it dependent; Kafka takes independent blocks only
      frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff
      return frame
    },
    decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
  }
}
CompressionCodecs[CompressionTypes.ZSTD] = () => {
  const ready = new Promise((resolve) => require('zstd-codec').ZstdCodec.run((zstd) => resolve(new zstd.Simple())))
  return {
    compress: async (encoder) => Buffer.from((await ready).compress(encoder.buffer)),
    decompress: async (buffer) => Buffer.from((await ready).decompress(buffer)),
  }
}

const codecs = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const topic = `users-${codecName}`
const kafka = new Kafka({ clientId: 'tutorial', brokers: [broker], logLevel: logLevel.ERROR })

async function createTopic() {
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({
    topics: [{ topic, numPartitions: 3, configEntries: [{ name: 'cleanup.policy', value: 'compact' }] }],
  })
  const topics = await admin.listTopics()
  if (!topics.includes(topic)) throw new Error(`${topic} is not listed in ${topics}`)
  await admin.disconnect()
}

async function write() {
  const producer = kafka.producer()
  await producer.connect()
  const send = (messages) => producer.send({ topic, compression: codecs[codecName], messages })
  await send([
    { key: 'ada', value: JSON.stringify({ name: 'Ada', city: 'London' }) },
    { key: 'grace', value: JSON.stringify({ name: 'Grace', city: 'New York' }) },
    { key: 'linus', value: JSON.stringify({ name: 'Linus', city: 'Helsinki' }) },
  ])
  await send([{ key: 'linus', value: JSON.stringify({ name: 'Linus', city: 'Portland' }) }])
  await send([{ key: 'grace', value: null }])
  await producer.disconnect()
}

async function readBack() {
  const users = new Map()
  const consumer = kafka.consumer({ groupId: `tutorial-${codecName}` })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  let seen = 0
  await new Promise((resolve, reject) => {
    const failed = setTimeout(() => reject(new Error(`only ${seen} of 5 records came`)), 30000)
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error))
    consumer
      .run({
        eachMessage: async ({ message }) => {
          const key = message.key.toString()
          if (message.value === null) users.delete(key)
          else users.set(key, JSON.parse(message.value.toString()))
          if (++seen === 5) {
            clearTimeout(failed)
            resolve()
          }
        },
      })
      .catch(reject)
  })
  await consumer.disconnect()
  return Object.fromEntries([...users].sort())
}

async function main() {
  await createTopic()
  await write()
  console.log(JSON.stringify(await readBack()))
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
