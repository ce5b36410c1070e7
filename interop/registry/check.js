// Registers, evolves, is refused and reads with @kafkajs/confluent-schema-registry. Arguments: the registry's address, and
// what Leat's serde wrote, as hexadecimal. Prints what this client wrote.
const { SchemaRegistry, SchemaType } = require('@kafkajs/confluent-schema-registry')
const assert = require('node:assert')

const order = (...more) => JSON.stringify({
  type: 'record', name: 'Order', namespace: 'shop',
  fields: [{ name: 'id', type: 'string' }, { name: 'total', type: 'long' }, ...more],
})

async function main() {
  const registry = new SchemaRegistry({ host: process.argv[2] })
  const subject = 'js-avro-value'
  const v1 = await registry.register({ type: SchemaType.AVRO, schema: order() }, { subject })
  const v2 = await registry.register({ type: SchemaType.AVRO, schema: order({ name: 'currency', type: 'string', default: 'EUR' }) }, { subject })
  assert.notStrictEqual(v1.id, v2.id)
  await assert.rejects(
    registry.register({ type: SchemaType.AVRO, schema: order({ name: 'coupon', type: ['null', 'string'] }) }, { subject }), /incompatible/)
  const old = await registry.encode(v1.id, { id: 'j1', total: 5 })
  const next = await registry.encode(v2.id, { id: 'j2', total: 6, currency: 'USD' })
  const read = async (data, options) => JSON.parse(JSON.stringify(await registry.decode(data, options)))
  assert.deepStrictEqual(await read(old), { id: 'j1', total: 5 })
  const avro = require('avsc')
  const reader = text => ({ [SchemaType.AVRO]: { readerSchema: avro.Type.forSchema(JSON.parse(text)) } })
  assert.deepStrictEqual(await read(old, reader(order({ name: 'currency', type: 'string', default: 'EUR' }))), { id: 'j1', total: 5, currency: 'EUR' })
  assert.deepStrictEqual(await read(next, reader(order())), { id: 'j2', total: 6 })
  assert.strictEqual((await registry.decode(Buffer.from(process.argv[3], 'hex'))).id, 'l1')
  assert.strictEqual(await registry.getLatestSchemaId(subject), v2.id)
  console.log(next.toString('hex'))
}

main().catch(e => { console.error(e); process.exit(1) })
