package avro

// Format is "avro": which changes of the schema are allowed is the registry's to say.
func (*base[A, B]) Format() string { return "avro" }
