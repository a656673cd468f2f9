# Nomad's own attributes, under the private enterprise number for documentation (RFC 5612).
# For FreeRADIUS: $INCLUDE this file from its dictionary.
VENDOR		Nomad	32473
BEGIN-VENDOR	Nomad

# In Access-Accept: who the person is
ATTRIBUTE	Nomad-Address			1	string
ATTRIBUTE	Nomad-Extension			2	string
ATTRIBUTE	Nomad-Group			3	string
ATTRIBUTE	Nomad-Display-Name		4	string

# In Access-Accept and CoA-Request: what the person may do
ATTRIBUTE	Nomad-Allow-Class		5	string
ATTRIBUTE	Nomad-Max-Calls			6	integer
ATTRIBUTE	Nomad-Max-Minutes-Per-Day	7	integer
ATTRIBUTE	Nomad-Max-Call-Minutes		8	integer

# Where the edge verifies digests ([radius] verify = "edge"): it asks with the one in the Access-Request, and gets the
# other in the Access-Accept, over RadSec or loopback only. ALGORITHM:USER:REALM:HEX, as in the directory
ATTRIBUTE	Nomad-Digest-HA1		9	string
ATTRIBUTE	Nomad-Verify-At			10	integer
VALUE		Nomad-Verify-At		Edge	1

# In Accounting-Request: the call. The response code also in an Access-Reject: 403 says that the credentials were right
ATTRIBUTE	Nomad-SIP-Call-Id		16	string
ATTRIBUTE	Nomad-SIP-From-Tag		17	string
ATTRIBUTE	Nomad-SIP-To-Tag		18	string
ATTRIBUTE	Nomad-SIP-Response-Code		19	integer
ATTRIBUTE	Nomad-SIP-Method		20	string
ATTRIBUTE	Nomad-Direction			21	string
ATTRIBUTE	Nomad-Number-Class		22	string
ATTRIBUTE	Nomad-Rule			23	string
ATTRIBUTE	Nomad-Media-Packets		24	integer
ATTRIBUTE	Nomad-Media-Octets		25	integer64
ATTRIBUTE	Nomad-Media-Lost		26	integer
ATTRIBUTE	Nomad-User-Agent		27	string
ATTRIBUTE	Nomad-Peer			28	string

END-VENDOR	Nomad
