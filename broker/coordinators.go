package broker

// coordinators holds the group and transaction coordinators.
type coordinators struct{}

// startCoordinators replays the coordinators' topics and starts their goroutines. The partition logs are open by then.
func startCoordinators(b *Broker) error { return nil }

// stopCoordinators ends the goroutines that startCoordinators started and waits for them; the logs close afterwards.
func stopCoordinators(b *Broker) {}

// coordinatorRoutes are the rows of the APIs that coordinators serve.
func coordinatorRoutes() []route { return nil }

// topicDeleted tells the coordinators that a topic is gone: its committed offsets go with it.
func (b *Broker) topicDeleted(topic string) {}

// verifyTransaction checks, under the partition's lock, that a transactional batch belongs to an ongoing transaction of its
// producer; from Produce v12 on it adds the partition to it. It returns a kerr error.
func (b *Broker) verifyTransaction(transactionalID string, producerID int64, producerEpoch int16, topic string, partition int32, produceVersion int16) error {
	return nil
}
