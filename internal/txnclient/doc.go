// Package txnclient does with a franz-go client what exactly-once needs and the calls of kgo and kadm (v1.22.2) do not quite do: [End]
// ends a transaction, so that what was said to be committed is, and [StableOffsets] asks what a group has committed, so that no open
// transaction can still change the answer.
package txnclient
