package protocol

// PathCertificates takes a CertificatesRequest by POST.
const PathCertificates = Prefix + "certificates"

// CertificatesRequest has certificates of the server issued anew.
type CertificatesRequest struct {
	// Services are whose; none stands for all.
	Services []string `json:"services,omitempty"`
	// CA, if not nil, replaces CAs, and everything that they have signed.
	CA *CARequest `json:"ca,omitempty"`
}

// CARequest replaces CAs.
type CARequest struct {
	// Files are new ones, by their paths below server/tls; without any they
	// are made.
	Files map[string][]byte `json:"files,omitempty"`
	// Force has the old ones trusted no more.
	Force bool `json:"force,omitempty"`
}

// CertificatesAnswer says what was done.
type CertificatesAnswer struct {
	// CAs are the names of those that were replaced.
	CAs []string `json:"cas,omitempty"`
}
