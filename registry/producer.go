package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/internal/txnclient"
)

// errFenced is wrapped by the error of a write after another registry has taken the topic over.
var errFenced = errors.New("another registry has taken over the topic")

// producer writes to the schemas' topic in transactions, under an id that belongs to the topic. Two registries that
// decide at once may give one id to two schemas; so the one that comes later takes the id over, and Kafka refuses what the
// earlier one still writes. From then on the earlier one only reads.
//
// A transaction that fails is settled by a new client, whose InitProducerId waits for its end; the outcome is then in the
// topic, where the registry reads it before it decides anything else. It belongs to the holder of the log's token.
type producer struct {
	life   context.Context // its end cuts short what is being written
	config Config
	client *kgo.Client // nil if there is none yet, or the last one failed
	fenced bool
}

func newProducer(life context.Context, c Config) *producer { return &producer{life: life, config: c} }

func (p *producer) connect() error {
	opts := append([]kgo.Opt{
		kgo.WithContext(p.life),
		kgo.SeedBrokers(p.config.Brokers...),
		kgo.ClientID("leat-registry"),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordDeliveryTimeout(p.config.WriteTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, p.config.ClientOpts...)
	if !p.config.Unfenced {
		opts = append(opts, kgo.TransactionalID("leat-registry-"+p.config.Topic), kgo.TransactionTimeout(p.config.WriteTimeout))
	}
	var err error
	if p.client, err = kgo.NewClient(opts...); err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	return nil
}

// write appends the records, all or none, and returns the offset of the last one.
func (p *producer) write(ctx context.Context, records []*kgo.Record) (int64, error) {
	if p.fenced {
		return 0, errFenced
	}
	if p.client == nil {
		if err := p.connect(); err != nil {
			return 0, err
		}
	}
	last, err := p.transact(ctx, records)
	if err == nil {
		return last, nil
	}
	p.close()
	if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.InvalidProducerIDMapping) {
		p.fenced = true
		err = fmt.Errorf("%w: %w", errFenced, err)
		p.config.Logger.Error("another registry writes to the topic now: this one only reads from here on; run one registry for each topic, and restart this one to have it take over again", "topic", p.config.Topic)
	}
	return 0, err
}

func (p *producer) transact(ctx context.Context, records []*kgo.Record) (int64, error) {
	if p.config.Unfenced {
		results := p.client.ProduceSync(ctx, records...)
		return results[len(results)-1].Record.Offset, results.FirstErr()
	}
	if err := p.client.BeginTransaction(); err != nil {
		return 0, err
	}
	results := p.client.ProduceSync(ctx, records...)
	if err := results.FirstErr(); err != nil {
		// What was written so far must not stay open: it would hold all readers up until the transaction times out. If
		// this fails too, the next client's InitProducerId ends it.
		return 0, errors.Join(err, txnclient.End(ctx, p.client, kgo.TryAbort))
	}
	return results[len(results)-1].Record.Offset, txnclient.End(ctx, p.client, kgo.TryCommit)
}

// close gives the client up.
func (p *producer) close() {
	if p.client != nil {
		p.client.Close()
		p.client = nil
	}
}
