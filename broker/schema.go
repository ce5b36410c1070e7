package broker

import "github.com/leatstream/leat/broker/internal/wire"

// schemas are the flexible versions of the requests that kmsg decodes, by API key. kmsg believes counts: one of 2^32-1 tagged
// fields in a frame of 30 bytes keeps it busy for half a minute. So frames are walked over before they are decoded.
func schemas() map[int16]*wire.Schema {
	m := map[int16]*wire.Schema{}
	for key, text := range map[int16]string{
		2:  "4 1 [s [4 4 8]] 4@10",                                  // ListOffsets
		3:  "[16@10 s] 1 1@8-10 1",                                  // Metadata
		8:  "s 4 s s [s@0-9 16@10 [4 8 4 s]]",                       // OffsetCommit
		9:  "s@0-7 [s (4)]@0-7 [s s@9 4@9 [s@0-9 16@10 (4)]]@8 1@7", // OffsetFetch
		10: "s@0-3 1 (s)@4",                                         // FindCoordinator
		11: "s 4 4 s s s [s s] s@8",                                 // JoinGroup
		12: "s 4 s s",                                               // Heartbeat
		13: "s [s s s@5]",                                           // LeaveGroup
		14: "s 4 s s s@5 s@5 [s s]",                                 // SyncGroup
		15: "(s) 1",                                                 // DescribeGroups
		16: "(s)@4 (s)@5",                                           // ListGroups
		18: "s s",                                                   // ApiVersions
		19: "[s 4 2 [4 (4)] [s s]] 4 1",                             // CreateTopics
		20: "(s)@0-5 [s 16]@6 4",                                    // DeleteTopics
		21: "[s [4 8]] 4",                                           // DeleteRecords
		22: "s 4 8@3 2@3",                                           // InitProducerId
		23: "4 [s [4 4 4]]",                                         // OffsetForLeaderEpoch
		24: "s@0-3 8@0-3 2@0-3 [s (4)]@0-3 [s 8 2 1 [s (4)]]@4",     // AddPartitionsToTxn
		25: "s 8 2 s",                                               // AddOffsetsToTxn
		26: "s 8 2 1",                                               // EndTxn
		27: "[8 2 1 [s (4)] 4 1@2]",                                 // WriteTxnMarkers
		28: "s s 8 2 4 s s [s@0-5 16@6 [4 8 4 s]]",                  // TxnOffsetCommit
		29: "1 s 1 s s 1 1",                                         // DescribeAcls
		30: "[1 s 1 s s 1 1]",                                       // CreateAcls
		31: "[1 s 1 s s 1 1]",                                       // DeleteAcls
		32: "[1 s (s)] 1 1",                                         // DescribeConfigs
		33: "[1 s [s s]] 1",                                         // AlterConfigs
		34: "[s [s (4)]]",                                           // AlterReplicaLogDirs
		35: "[s (4)]",                                               // DescribeLogDirs
		36: "s",                                                     // SaslAuthenticate
		37: "[s 4 [(4)]] 4 1",                                       // CreatePartitions
		42: "(s)",                                                   // DeleteGroups
		43: "1 [s (4)] 4",                                           // ElectLeaders
		44: "[1 s [s 1 s]] 1",                                       // IncrementalAlterConfigs
		45: "4 1@1 [s [4 (4)]]",                                     // AlterPartitionReassignments
		46: "4 [s (4)]",                                             // ListPartitionReassignments
		48: "[s 1 s] 1",                                             // DescribeClientQuotas
		49: "[[s s] [s 8 1]] 1",                                     // AlterClientQuotas
		50: "[s]",                                                   // DescribeUserScramCredentials
		51: "[s 1] [s 1 4 s s]",                                     // AlterUserScramCredentials
		55: "[s [4]]",                                               // DescribeQuorum
		57: "4 [s 2 1] 1@1",                                         // UpdateFeatures
		60: "1 1@1 1@2",                                             // DescribeCluster
		61: "[s (4)]",                                               // DescribeProducers
		65: "(s)",                                                   // DescribeTransactions
		66: "(s) (8) 8@1 s@2",                                       // ListTransactions
		68: "s s 4 s s 4 (s) s@1 s [16 (4)]",                        // ConsumerGroupHeartbeat
		69: "(s) 1",                                                 // ConsumerGroupDescribe
		74: "(1)@1",                                                 // ListConfigResources
		75: "[s] 4 ?[s 4]",                                          // DescribeTopicPartitions
	} {
		m[key] = wire.ParseSchema(text)
	}
	return m
}
